"""The configs that come with the program, found by name as well as by path."""

import difflib
import importlib.util
import os
import pathlib

import ml_collections

import svtas_jax
from svtas_jax.errors import MissingInputError


def folder() -> pathlib.Path:
    """Returns the folder of the configs: in the installed package, or the checkout."""
    package = pathlib.Path(svtas_jax.__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def names() -> tuple[str, ...]:
    """Returns the names of all configs that come with the program, sorted."""
    return tuple(sorted(p.stem for p in folder().glob("*.py") if p.stem != "__init__"))


def find(name: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a config, which may not exist.

    Args:
        name: a path, or a name such as "gtea_sete". A file at that path comes first;
            "configs/gtea_sete.py" is also found from outside a checkout.
    """
    path = pathlib.Path(name)
    if path.is_file():
        return path
    bare = len(path.parts) == 1 and path.suffix in ("", ".py")
    listed = path.parts[:-1] == ("configs",) and path.suffix == ".py"
    known = folder() / f"{path.stem}.py"
    return known if (bare or listed) and known.is_file() else path


def get_config(name: str | os.PathLike) -> ml_collections.ConfigDict:
    """Returns a config by its name or path.

    Raises:
        MissingInputError: if there is no such config.
    """
    path = find(name)
    if not path.is_file():
        raise MissingInputError(missing(path))
    spec = importlib.util.spec_from_file_location(f"svtas_jax_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def missing(path: pathlib.Path) -> str:
    """Returns the message for a config that does not exist."""
    known = names()
    close = difflib.get_close_matches(path.stem, known, n=3) or ["demo_sete"]
    return (
        f"--config={path} does not exist. Give a path, or the name of one of the "
        f"{len(known)} configs in {folder()}, such as --config={' or '.join(close)}."
    )
