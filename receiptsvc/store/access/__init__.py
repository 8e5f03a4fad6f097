"""Who may use the ops page: users, sessions, how often sign-ins are tried; and what they searched for."""
