"""Checks PostgreSQL's settings: with some of them a commit returns before it is durable."""

SETTINGS_QUERY = (
    "SELECT current_setting('fsync'), current_setting('synchronous_commit'),"
    " current_setting('synchronous_standby_names'), current_setting('client_min_messages')"
)

_WAITS_FOR_STANDBYS = ("on", "remote_apply")


def find_faults(fsync: str, synchronous_commit: str, standbys: str, client_min_messages: str) -> list[str]:
    """The faults in a row of SETTINGS_QUERY, a line each. The session's settings count: a role may have others."""
    lost = "a receipt answered 200 could be lost"
    faults = [
        f"DATABASE_URL: PostgreSQL runs with {name} off; {lost}"
        for name, value in (("fsync", fsync), ("synchronous_commit", synchronous_commit))
        if value == "off"
    ]
    if not standbys.strip():
        return faults
    if synchronous_commit not in ("off", *_WAITS_FOR_STANDBYS):
        faults.append(
            "DATABASE_URL: PostgreSQL names synchronous standbys, but runs with synchronous_commit"
            f" {synchronous_commit} and does not wait until their disks have a commit; {lost}."
            " Set it to on or remote_apply, or empty synchronous_standby_names"
        )
    if client_min_messages == "error":
        faults.append(
            "DATABASE_URL: PostgreSQL names synchronous standbys, but runs with client_min_messages error, which hides"
            f" that a wait for them was cancelled; {lost}. Set it to warning or lower"
        )
    return faults
