"""Settings are refused in one message that names every fault, and no secret is shown."""

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from receiptsvc import locations
from receiptsvc.config import NAMES, Settings
from receiptsvc.connection_shares import Bounds, ConnectionShares
from receiptsvc.domain.errors import SettingsError
from receiptsvc.domain.statuses import Status
from receiptsvc.locations import PROJECT
from receiptsvc.web_role import WebRole

SECRET = "correct-horse-battery-staple"
POSTGRESQL = {
    "DATABASE_URL": "postgres://user:hunter2hunter2@db/name",
    "CALLBACK_KEYS": SECRET,
    "API_KEYS": f"shop:send+read:{SECRET}-api",
}


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locations, "DATA", tmp_path / "data")
    return tmp_path / "data"


def faults(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ)
    return caught.value.faults


def test_a_local_set_up_needs_no_setting(data_folder: Path) -> None:
    settings = Settings.from_env({})
    assert settings.is_sqlite
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.web_concurrency == 1
    assert settings.account is None
    assert settings.keep_events == timedelta(days=3)
    assert (settings.max_recipients, settings.max_body_bytes) == (10_000, 16 * 1024 * 1024)
    for name in ("callback_keys", "api_key"):
        assert stat.S_IMODE((data_folder / name).stat().st_mode) == 0o600
    assert Settings.from_env({}).callback_keys == settings.callback_keys


def test_a_heroku_database_url_names_the_psycopg_driver() -> None:
    settings = Settings.from_env(POSTGRESQL)
    assert settings.database_url == "postgresql+psycopg://user:hunter2hunter2@db/name"
    assert settings.web_concurrency == 2


def test_a_web_process_serves_all_unless_told_otherwise() -> None:
    assert Settings.from_env({}).web_role is WebRole.ALL
    assert Settings.from_env({"WEB_ROLE": "callbacks"}).web_role is WebRole.CALLBACKS
    assert faults({"WEB_ROLE": "web"}) == ["WEB_ROLE: must be one of all, callbacks, api"]


def test_for_callbacks_alone_a_web_process_has_no_connections_of_an_api() -> None:
    each = {role: Settings.from_env({**POSTGRESQL, "WEB_ROLE": role}) for role in WebRole}
    shares = {role: settings.connection_shares for role, settings in each.items()}
    assert shares[WebRole.ALL] == shares[WebRole.API] == ConnectionShares(api=3, worker=3, page=1)
    assert shares[WebRole.CALLBACKS] == ConnectionShares(api=1, worker=3), "a worker's share is that of its set"
    assert {settings.connection_bounds for settings in each.values()} == {Bounds(of_set=18, of_callbacks_process=3)}
    with_spool = Settings.from_env({**POSTGRESQL, "SPOOL_DIR": "/var/spool/x"})
    assert with_spool.connection_bounds == Bounds(of_set=18, of_callbacks_process=4)


def test_a_relative_sqlite_path_is_under_the_project_whatever_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_env({"DATABASE_URL": "sqlite:///data/x.db"}).database_url == f"sqlite:///{PROJECT}/data/x.db"


def test_one_error_names_every_fault() -> None:
    environ = {
        "DATABASE_URL": "mysql://u:p@h/d",
        "PORT": "eighty",
        "PUBLIC_URL": "ftp://x",
        "CALLBACK_KEYS": "short",
        "API_KEYS": f"a:send+fly:{SECRET}",
        "DYNMARK_USERNAME": "me",
        "DYNMARK_TRANSPORT": "pigeon",
        "DYNMARK_TIMEOUT_SECONDS": "-1",
        "STATUS_MAP": '{"1": "gone"}',
        "RETURN_CODES": "[]",
        "DYNMARK_TIMEZONE": "Mars/Olympus",
        "BATCH_SIZE": "251",
    }
    names = {fault.partition(":")[0] for fault in faults(environ)}
    assert sorted(names) == sorted({*environ, "DYNMARK_PASSWORD"} - {"DYNMARK_USERNAME"})


BAD = [
    ("CALLBACK_KEYS", f"TOO-LONG-A-KID:{SECRET}"),
    ("CALLBACK_KEYS", f"a:{SECRET},a:{SECRET}2"),
    ("CALLBACK_KEYS", ","),
    ("API_KEYS", "nonsense"),
    ("API_KEYS", f"a:send:{SECRET},b:read:{SECRET}"),
    ("API_KEYS", "a:send:short"),
    ("PUBLIC_URL", "https://user:pass@example.org"),
    ("PUBLIC_URL", "https://example.org/" + "x" * 100),
    ("PUBLIC_URL", "https://example.org:99999"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "sqlite:///:memory:"),
    ("DATABASE_URL", "not a url"),
    ("DATABASE_URL", f"postgres://app:p@{SECRET}@host/sms"),
    ("DATABASE_URL", f"postgres://app:p@{SECRET}/x@host/sms"),
    ("DATABASE_LISTEN_URL", f"postgres://app:p@{SECRET}@host/sms"),
    ("PUBLIC_URL", "https://example.org/?"),
    ("DATABASE_URL", "sqlite:///file:x.db?mode=memory&uri=true"),
    ("DYNMARK_SOAP_URL", "http://["),
    ("STATUS_MAP", '{"1": "failed"}'),
    ("STATUS_MAP", "{" * 5000),
    ("TRUSTED_PROXIES", "*"),
    ("TRUSTED_PROXIES", "proxy.example.org"),
    ("TRUSTED_PROXIES", "10.0.0.1/8"),
    ("TRUSTED_PROXIES", "10.0.0.1,"),
    ("WEB_ROLE", "worker"),
    ("WEB_ROLE", "ALL"),
    ("PORT", "0"),
    ("PORT", "٣"),
    ("DYNMARK_TIMEOUT_SECONDS", "nan"),
    ("DYNMARK_TIMEOUT_SECONDS", "1e3"),
    ("KEEP_EVENTS_DAYS", "0"),
    ("KEEP_EVENTS_DAYS", "1.5"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_named_and_never_repeated(name: str, value: str) -> None:
    (fault,) = faults({name: value})
    assert fault.startswith(f"{name}: ")
    assert SECRET not in fault


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("environ", [{}, POSTGRESQL], ids=["SQLite", "PostgreSQL"])
def test_bytes_that_are_not_utf_8_are_one_fault(name: str, environ: dict[str, str]) -> None:
    value = f"{POSTGRESQL.get(name, SECRET)}\udcff"  # as Python reads such a byte
    found = faults(environ | {name: value})
    assert found[0] == f"{name}: holds bytes that are not UTF-8"
    assert SECRET not in "".join(found)
    assert len(found) == 1 or name == "DATABASE_URL"  # of PostgreSQL: what is set for it is not for SQLite


def test_a_file_of_a_key_that_is_not_utf_8_is_named(data_folder: Path) -> None:
    Settings.from_env({})
    for name, file in (("CALLBACK_KEYS", "callback_keys"), ("API_KEYS", "api_key")):
        (data_folder / file).write_bytes(SECRET.encode() + b"\xff")
        (fault,) = faults({})
        assert fault.startswith(f"{name}: its file {file} in the data folder holds bytes that are not UTF-8")
        (data_folder / file).write_text(SECRET)


MISSPELLED = [
    ("DATABSE_URL", "DATABASE_URL"),  # one character fewer,
    ("DATABASE_URLS", "DATABASE_URL"),  # one more,
    ("DATABASE_URI", "DATABASE_URL"),  # another,
    ("DATABASE_ULR", "DATABASE_URL"),  # two swapped
    ("ADTABASE_URL", "DATABASE_URL"),
    ("database_url", "DATABASE_URL"),
    ("DATABASE-URL", "DATABASE_URL"),
    ("CALLBACK_KEY", "CALLBACK_KEYS"),
    ("DYNMARK_USER_NAME", "DYNMARK_USERNAME"),
    ("PUBLIC_URL_", "PUBLIC_URL"),
    ("SPOOLDIR", "SPOOL_DIR"),
]


@pytest.mark.parametrize(("written", "meant"), MISSPELLED)
def test_a_name_one_edit_from_a_setting_that_is_unset_is_refused_with_that_name(written: str, meant: str) -> None:
    (fault,) = faults({written: f"sqlite:///{SECRET}"})
    assert fault == f"{written}: is no setting, and {meant} is unset: if that is meant, correct the name"


def test_a_misspelled_key_is_told_from_another_service_s() -> None:
    (fault,) = faults({"API_KEY": f"shop:send:{SECRET}"})
    assert "API_KEYS is unset" in fault
    assert Settings.from_env({"API_KEY": SECRET}).unknown_names == ()


@pytest.mark.parametrize(
    "environ",
    [
        {"PORTS": "80", "POST": "1", "SORT": "1", "HOST": "x", "PORT1": "8001"},  # anybody's
        {"DATABASE_URI": "sqlite:///x.db", "DATABASE_URL": "sqlite:///y.db"},  # the setting has its value
        {"DATABSE_URL": "  "},  # nothing is set
        {"DATABASE_URL_BACKUP": "x", "PUBLICURLS": "x"},  # further away
        {"RECEIPTSVC_SERVICE_HOST": "10.0.0.1", "RECEIPTSVC_PORT": "tcp://10.0.0.1:80"},  # Kubernetes' own
        {"RECEIPTSVC_PORT_80_TCP_ADDR": "10.0.0.1", "RECEIPTSVC_WEB_SERVICE_PORT_HTTP": "80"},
    ],
)
def test_names_that_are_not_ours_are_left_alone(environ: dict[str, str]) -> None:
    assert Settings.from_env(environ).unknown_names == ()


def test_other_unknown_names_that_begin_as_ours_are_named() -> None:
    environ = {"DYNMARK_URL": "x", "RECEIPTSVC_PORT": "80", "CALLBACK_TIMEOUT": "3", "SOMETHING": "x"}
    assert Settings.from_env(environ).unknown_names == ("CALLBACK_TIMEOUT", "DYNMARK_URL", "RECEIPTSVC_PORT")


def test_an_empty_key_file_is_a_fault(data_folder: Path) -> None:
    data_folder.mkdir()
    for name in ("callback_keys", "api_key"):
        (data_folder / name).write_text("")
    assert [fault.partition(":")[0] for fault in faults({})] == ["CALLBACK_KEYS", "API_KEYS"]


def test_a_broken_gateway_address_is_a_fault_with_an_account_too() -> None:
    account = {"DYNMARK_USERNAME": "me", "DYNMARK_PASSWORD": "secret"}
    assert [f.partition(":")[0] for f in faults({"DYNMARK_SOAP_URL": "http://[", **account})] == ["DYNMARK_SOAP_URL"]


def test_with_postgresql_the_keys_must_be_set() -> None:
    assert [f.partition(":")[0] for f in faults({"DATABASE_URL": POSTGRESQL["DATABASE_URL"]})] == [
        "CALLBACK_KEYS",
        "API_KEYS",
    ]


PRIVATE = [
    "http://127.0.0.1:8000",
    "http://localhost",
    "http://10.1.2.3",
    "http://[::1]:80",
    "http://desk",
    "http://a.local",
]


@pytest.mark.parametrize("public_url", PRIVATE)
def test_a_private_address_is_refused_with_a_public_gateway_once_we_can_send(public_url: str) -> None:
    account = {"DYNMARK_USERNAME": "me", "DYNMARK_PASSWORD": "secret"}
    (fault,) = faults({"PUBLIC_URL": public_url, **account})
    assert fault.startswith("PUBLIC_URL: ")
    Settings.from_env({"PUBLIC_URL": public_url})
    Settings.from_env({"PUBLIC_URL": public_url, "DYNMARK_SOAP_URL": "http://127.0.0.1:9100/x.asmx", **account})
    Settings.from_env({"PUBLIC_URL": "https://sms.example.org", **account})


def test_the_gateway_address_of_the_chosen_transport_is_the_one_checked() -> None:
    by_rest = {"DYNMARK_USERNAME": "me", "DYNMARK_PASSWORD": "secret", "DYNMARK_TRANSPORT": "rest"}
    (fault,) = faults({"DYNMARK_SOAP_URL": "http://127.0.0.1:9100/x.asmx", **by_rest})
    assert "DYNMARK_REST_URL is public" in fault
    assert Settings.from_env({"DYNMARK_REST_URL": "http://127.0.0.1:9100/send", **by_rest}).transport == "rest"


def test_a_dyno_without_a_database_is_refused() -> None:
    assert any("DATABASE_URL" in fault for fault in faults({"DYNO": "web.1"}))
    assert any("DATABASE_URL" in fault for fault in faults({"DYNO": "web.1", "DATABASE_URL": "sqlite:///x.db"}))


def test_the_settings_repr_holds_no_secret() -> None:
    settings = Settings.from_env(
        {**POSTGRESQL, "DYNMARK_USERNAME": "me", "DYNMARK_PASSWORD": SECRET, "PUBLIC_URL": "https://x.org"}
    )
    assert SECRET not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_a_key_keeps_its_kid_when_it_moves() -> None:
    only = Settings.from_env({"CALLBACK_KEYS": SECRET}).callback_keys[0]
    moved = Settings.from_env({"CALLBACK_KEYS": f"new:{SECRET}-2,{SECRET}"}).callback_keys
    assert moved[1] == only
    assert moved[0].kid == "new"


def test_trusted_proxies_are_addresses_and_networks() -> None:
    assert Settings.from_env({}).trusted_proxies == ()
    given = Settings.from_env({"TRUSTED_PROXIES": "10.0.0.1, fd00::/8,192.168.0.0/16"}).trusted_proxies
    assert given == ("10.0.0.1/32", "fd00::/8", "192.168.0.0/16")


def test_status_map_is_read_as_statuses() -> None:
    assert Settings.from_env({"STATUS_MAP": '{"1": "delivered"}'}).status_map == {"1": Status.DELIVERED}


def test_the_example_shows_every_setting_and_no_other() -> None:
    lines = (PROJECT / ".env.example").read_text().splitlines()
    shown = {line[1:].partition("=")[0] for line in lines if line.startswith("#") and not line.startswith("# ")}
    assert shown == NAMES
