"""The command ``pyhash serve``."""

# ruff: noqa: D301  (click wants a real \b before text that it must not wrap)

from __future__ import annotations

import os

import click

from .options import FolderType, gallery_option


@click.command("serve", short_help="Answer searches over HTTP, and show a page to search on.")
@click.argument("served", metavar="FOLDER|INDEX", type=FolderType(any_file=True))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen at.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that answer.")
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A further name under which the service may be asked, as it stands in the address; '*' for any.",
)
@click.option(
    "--token", envvar="PYHASH_TOKEN", show_envvar=True, help="What 'Authorization: Bearer' must bring.", metavar="TEXT"
)
@click.option("--writable", is_flag=True, help="Also take images in, and forget some.")
@click.option("--exif", is_flag=True, help="Serve image files as they are, with what they say of place and time.")
@click.option("--root-path", default="", metavar="PATH", help="Prefix of the address, which a proxy takes off.")
@click.option(
    "--encoder",
    metavar="MODEL",
    help="Of an INDEX: makes codes of images.  [default: none; it is asked with codes]",
)
@click.option(
    "--max-body", type=click.IntRange(min=1), default=32_000_000, show_default=True, help="Bytes of a request."
)
@click.option(
    "--rate", type=click.FloatRange(min=0), default=0.0, help="Requests a second of one address.  [default: any number]"
)
@gallery_option
def serve_command(
    served: str,
    host: str,
    port: int,
    workers: int,
    hosts: tuple[str, ...],
    token: str | None,
    writable: bool,
    exif: bool,
    root_path: str,
    encoder: str | None,
    max_body: int,
    rate: float,
    file: str | None,
) -> None:
    """Answer searches of FOLDER, which must have been indexed, or of an INDEX of codes, over HTTP.

    The service is asked from this machine alone, unless --host says otherwise. It takes no path and no address from a
    request. There is a page to search on at /, what can be asked is said at /openapi.json, and metrics are at /metrics.

    \b
    Examples:
      pyhash serve ~/Pictures
      curl -F image=@photo.jpg 'localhost:8000/v1/search?k=5'
      PYHASH_TOKEN=secret pyhash serve ~/Pictures --host 0.0.0.0 --allow-host photos.example.org
    """
    from ..serve import Limits, Settings, run  # slow to import

    settings = Settings(
        path=os.path.abspath(served),
        file=None if file is None else os.path.abspath(file),
        host=host,
        port=port,
        workers=workers,
        hosts=hosts,
        token=token,
        writable=writable,
        exif=exif,
        root_path=root_path,
        encoder=encoder,
        limits=Limits(body=max_body, rate=rate),
    )
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"pyhash: http://{shown}:{port}{root_path}/", err=True)
    run(settings)
