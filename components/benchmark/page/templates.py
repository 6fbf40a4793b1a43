"""The templates beside this file, and pictures inside of what they make."""

import base64
from pathlib import Path

import jinja2


def template(name: str) -> jinja2.Template:
    """Load a template; what is put into it is escaped, and what it lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def data_uri(kind: str, content: bytes) -> str:
    """A picture, `kind` being png or jpeg, as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
