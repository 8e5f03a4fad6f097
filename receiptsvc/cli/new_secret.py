"""`new-secret`: makes the secrets that the settings need. Their form is that of `keys`."""

import json

import click

from receiptsvc import keys


@click.command(name="new-secret")
@click.option("--name", default="main", show_default=True, help="Whose API key it is: the name stands in the audit.")
@click.option(
    "--scopes",
    default="+".join(sorted(keys.SCOPES)),
    show_default=True,
    metavar="SCOPE+SCOPE",
    help="What the API key is for.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def new_secret(*, name: str, scopes: str, as_json: bool) -> None:
    """Make secrets for CALLBACK_KEYS and API_KEYS.

    Each line can be put into .env or the hosting's settings as it is; nothing is kept here. Further keys are added to a
    setting with a comma. A new callback key goes in front of the old ones, which verify what is still on its way.
    """
    if not set(scopes.split("+")) <= keys.SCOPES:
        raise click.UsageError(f"--scopes: must be some of {', '.join(sorted(keys.SCOPES))}, with + between.")
    made = {"CALLBACK_KEYS": keys.make_callback_key(), "API_KEYS": keys.make_api_key(name, scopes)}
    faults: list[str] = []
    keys.parse_api_keys(made["API_KEYS"], faults.append)
    if faults:
        raise click.UsageError("--name: must be 1 to 64 letters, digits, dots, dashes and underscores.")
    if as_json:
        click.echo(json.dumps(made, indent=2))
        return
    for setting, value in made.items():
        click.echo(f"{setting}={value}")
    click.echo("They are shown only now. Clients send what stands behind the last colon of API_KEYS.", err=True)
