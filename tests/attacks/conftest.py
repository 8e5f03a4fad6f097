"""What attackers and accidents do to the running service. It has the processes and the PostgreSQL of the fault tests."""

from tests.faults.conftest import form, one_server, postgresql_url, server, start_web, tmp_path

__all__ = ["form", "one_server", "postgresql_url", "server", "start_web", "tmp_path"]
