"""Who may import whom: every room rests on the floors below, and nothing goes up."""

import ast
import configparser
import pathlib
import re
import subprocess
import sys

import pytest

import svtas_jax

ROOT = pathlib.Path(svtas_jax.__file__).parents[1]
COMMANDS = (
    *("train", "evaluate", "stream", "extract", "cross_validate", "profile"),
    *("benchmark", "compare", "serve", "export.__main__"),
)
PIPELINE_COMMANDS = ("check", "prepare", "render", "tfds_builder")
# From the ground up. A room is a folder, or a module that stands alone.
FLOORS = (
    {"svtas_jax", "svtas_jax.errors"},
    {"svtas_jax.structs", "svtas_jax.runtime", "svtas_jax.pages"},
    {
        *("svtas_jax.config", "svtas_jax.config_rules", "svtas_jax.recipes"),
        *("svtas_jax.smoothing", "svtas_jax.stitching"),
    },
    {
        *("data_pipeline", "data_pipeline.annotators", "data_pipeline.demo"),
        *("data_pipeline.layout", "data_pipeline.prepared", "data_pipeline.rendered"),
    },
    {
        *("svtas_jax.models", "svtas_jax.checkpoints", "svtas_jax.folding"),
        "data_pipeline.checking",
    },
    {
        *("svtas_jax.run_config", "svtas_jax.streaming", "svtas_jax.feedback"),
        "svtas_jax.weights",
    },
    {"svtas_jax.evaluation", "svtas_jax.export"},
    {"svtas_jax.live", "svtas_jax.runs"},
    {"svtas_jax.serving"},
    {"svtas_jax.training", "svtas_jax.cost"},
    {"commands"},
)
# All that the pipeline needs of the models' side, beside the rooms below it.
OPEN_TO_PIPELINE = {
    "svtas_jax.errors",
    "svtas_jax.structs",
    "svtas_jax.config",
    "svtas_jax.config_rules",
    "svtas_jax.recipes",
    "svtas_jax.runtime.arrays",
    "svtas_jax.runtime.files",
    "svtas_jax.runtime.progress",
}
ROOMS_OPEN_TO_PIPELINE = {"svtas_jax.pages"}


def modules():
    for package in ("svtas_jax", "data_pipeline"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, path


MODULES = dict(modules())


def room_of(module):
    package, _, rest = module.partition(".")
    if rest in (COMMANDS if package == "svtas_jax" else PIPELINE_COMMANDS):
        return "commands"
    if (ROOT / package / rest.partition(".")[0]).is_dir() and rest:
        return f"{package}.{rest.partition('.')[0]}"
    return package if package == "data_pipeline" else module


def imports_of(path):
    """Yields the modules of this project that a module imports, also inside functions;
    what is imported for the type checker alone is none of them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found = full if full in MODULES else node.module
                if found in MODULES:
                    yield found
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in MODULES)


ARROWS = {(name, found) for name, path in MODULES.items() for found in imports_of(path)}


def test_every_room_has_a_floor():
    known = set().union(*FLOORS)
    assert {room_of(name) for name in MODULES} == known


def test_nothing_is_imported_from_above():
    floor_of = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    upwards = [
        f"{name} -> {found}"
        for name, found in sorted(ARROWS)
        if floor_of[room_of(name)] < floor_of[room_of(found)]
    ]
    assert not upwards


def test_no_modules_import_each_other_in_a_circle():
    below = {name: {b for a, b in ARROWS if a == name} - {name} for name in MODULES}
    while below:
        free = [name for name, needs in below.items() if not needs & below.keys()]
        assert free, f"a circle among {sorted(below)}"
        below = {name: needs for name, needs in below.items() if name not in free}


def test_the_pipeline_knows_no_model():
    allowed = OPEN_TO_PIPELINE | {"svtas_jax"}
    found = {
        f"{name} -> {target}"
        for name, target in ARROWS
        if name.startswith("data_pipeline")
        and target.startswith("svtas_jax")
        and target not in allowed
        and room_of(target) not in ROOMS_OPEN_TO_PIPELINE
        and room_of(name) != "commands"
    }
    assert not found


def test_only_commands_of_other_rooms_are_at_the_top():
    assert not [f"{a} -> {b}" for a, b in ARROWS if room_of(b) == "commands"]


def test_numpy_files_are_read_in_one_place():
    """Elsewhere a thread could read one beside another: see there."""
    found = [
        name
        for name, path in MODULES.items()
        if re.search(
            r"np\.load\(|\bread_array\(|\bopen_memmap\(|\bNpzFile\(",
            path.read_text(encoding="utf-8"),
        )
    ]
    assert found == ["svtas_jax.runtime.arrays"]


IMPORT_ALL = """
import importlib, sys
from absl import flags
before = set(flags.FLAGS)
for name in sys.argv[1:]:
    importlib.import_module(name)
new = set(flags.FLAGS) - before
ours = [n for n in new if any(
    f.name == n and module.startswith(("svtas_jax", "data_pipeline", "__main__"))
    for module, own in flags.FLAGS.flags_by_module_dict().items() for f in own)]
assert not ours, ours
import jax
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a device was touched"
"""


def test_imports_define_no_flag_and_touch_no_device():
    command = [sys.executable, "-c", IMPORT_ALL, *MODULES]
    subprocess.run(command, check=True, cwd=ROOT)


LIGHT = """
import sys
import {module}
heavy = [name for name in sys.modules if name.split(".")[0] in {heavy!r}]
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "module, heavy",
    [
        ("svtas_jax", ("jax", "flax", "numpy", "cv2", "av")),
        ("svtas_jax.runtime.cli", ("flax", "optax", "orbax", "grain", "cv2", "av")),
    ],
)
def test_doors_open_quickly(module, heavy):
    """Seconds depend on the machine; what is imported does not."""
    code = LIGHT.format(module=module, heavy=heavy)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_package_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = setup["options"]["packages"].split()
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("svtas_jax", "data_pipeline")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert listed == sorted(folders | {"svtas_jax.configs"})


def test_nothing_else_is_at_the_top():
    """What a command left behind was committed once."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(
        ["git", "ls-files"], check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    found = {line.partition("/")[0] for line in listed.splitlines()}
    assert found - {".ci", ".gitignore"} == {
        *("svtas_jax", "configs", "scripts", "data_pipeline", "tests", "docs"),
        *("setup.cfg", "pyproject.toml", "README.md", "CONTRIBUTING.md"),
        *("CHANGELOG.md", "CITATION.cff", "LICENSE"),
    }


def test_every_public_name_is_there():
    for name in svtas_jax.__all__:
        assert getattr(svtas_jax, name).__doc__
    assert set(svtas_jax.__all__) <= set(dir(svtas_jax))
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        svtas_jax.segment  # noqa: B018  that it raises is the point
