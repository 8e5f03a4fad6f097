"""The vendor: its wire forms and its words. Knows the domain and the settings, never the store, never Flask."""
