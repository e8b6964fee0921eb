"""What README and docs name exists: links, modules, files, configs, fields, flags; and
their Python runs."""

import importlib
import itertools
import pathlib
import re

import pytest

from svtas_jax.config import default_config
from svtas_jax.runtime import cli, configs
from svtas_jax.training import loop

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PAGES = [page for page in PAGES if page.exists()]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
CALL = re.compile(
    r"python (?:-m ((?:svtas_jax|data_pipeline)[\w.]*)|(scripts/\w+\.py))([^#&;|`]*)"
)
FOLDERS = r"svtas_jax|data_pipeline|configs|scripts|tests|docs|\.ci"
SECTION = re.compile(
    r"(?:--)?(?:config\.)?((?:data|model|train|eval)\.(?!json)\w+)(?:=.*)?"
)


def text_of(page):
    return page.read_text(encoding="utf-8")


def prose_of(page):
    return FENCE.sub("", text_of(page))


def blocks_of(page, language):
    """Returns the code of a language, commands of several lines as one."""
    found = [code for kind, code in FENCE.findall(text_of(page)) if kind == language]
    return [code.replace("\\\n", " ") for code in found]


def spans_of(page):
    """Returns what stands between backticks in the text."""
    return re.findall(r"`([^`]+)`", prose_of(page))


def anchors_of(page):
    """Returns the headings as GitHub names them."""
    titles = re.findall(r"^#+ (.*)$", prose_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def expanded(pattern):
    """Yields every choice of a{b,c}d."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = [
        part.split(",") if index % 2 else [part] for index, part in enumerate(parts)
    ]
    return map("".join, itertools.product(*choices))


def is_there(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def flags_of(code):
    """Returns the flags that a module or script defines."""
    shared = re.findall(r"cli\.define\(([^)]*)\)", code)
    shared += [f'"{name}"' for name in cli.SMOOTHING if "*cli.SMOOTHING" in code]
    own = re.findall(r"(?:flags\.DEFINE_\w+|add_argument)\(\s*\"-{0,2}(\w+)", code)
    return {*own, *re.findall(r'"(\w+)"', " ".join(shared)), "help"}


ALL_FLAGS = set().union(
    *(
        flags_of(path.read_text(encoding="utf-8"))
        for folder in ("svtas_jax", "data_pipeline", "scripts")
        for path in (ROOT / folder).rglob("*.py")
    )
)


def commands_of(page):
    """Yields the source and the arguments of every call of a program of ours."""
    lines = itertools.chain(*(code.splitlines() for code in blocks_of(page, "bash")))
    for line in (*lines, *spans_of(page)):
        for module, script, arguments in CALL.findall(line):
            path = ROOT / (script or module.replace(".", "/"))
            path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
            yield path.read_text(encoding="utf-8"), arguments


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors_of(path), target


@each_page
def test_modules_are_there(page):
    names = re.findall(
        r"(?<![\w./-])((?:svtas_jax|data_pipeline)(?:\.\w+)+)", text_of(page)
    )
    files = {name for name in names if name.endswith((".py", ".md"))}
    assert not [name for name in sorted({*names} - files) if not is_there(name)]


@each_page
def test_files_are_there(page):
    found = re.findall(rf"(?<![\w./-])((?:{FOLDERS})/[\w./*{{}},-]*)", text_of(page))
    paths = {path for pattern in found for path in expanded(pattern.rstrip(".,"))}
    assert not [path for path in sorted(paths) if not [*ROOT.glob(path.rstrip("/"))]]


def test_the_map_of_the_repository_is_complete():
    spans = spans_of(ROOT / "README.md")
    named = {path.rstrip("/") for span in spans for path in expanded(span)}
    packages = [*ROOT.glob("svtas_jax/**/__init__.py")]
    packages += ROOT.glob("data_pipeline/**/__init__.py")
    rooms = {path.parent for path in packages} - {ROOT / "svtas_jax"}
    modules = set((ROOT / "svtas_jax").glob("*.py"))
    wanted = {str(path.relative_to(ROOT)) for path in rooms | modules}
    assert wanted <= named, sorted(wanted - named)


@each_page
def test_configs_are_there(page):
    names = re.findall(r"--config=([a-z0-9_]+)\b(?![./])", text_of(page))
    assert set(names) <= set(configs.names())


@each_page
def test_fields_are_there(page):
    known = {
        f"{s}.{f}"
        for s in ("data", "model", "train", "eval")
        for f in default_config()[s]
    }
    found = {match[1] for span in spans_of(page) if (match := SECTION.fullmatch(span))}
    found |= set(re.findall(r"--config\.(\w+\.\w+)=", text_of(page)))
    assert found <= known


@each_page
def test_flags_are_there(page):
    spans = {span for span in spans_of(page) if span.startswith("--")}
    named = {re.match(r"--(\w+)", span)[1] for span in spans}
    assert named <= ALL_FLAGS
    for code, arguments in commands_of(page):
        given = set(re.findall(r"(?<![\w=,])--(\w+)", arguments))
        assert given <= flags_of(code), arguments


@pytest.mark.usefixtures("tiny_commands")
def test_the_examples_of_the_library_run(folder, tiny, tmp_path, monkeypatch, capsys):
    config = tiny.config("sete")
    config.model.image_stages = 2  # what `tiny_commands` builds
    folder.add("S1_Coffee_C1", 29)
    folder.add("other", 17, subsets=("train",))
    config.data.update(root=str(folder.root), dataset="tiny")
    config.train.update(num_epochs=1, selection="test")
    (folder.root / "splits" / "test.split1.bundle").write_text("S1_Coffee_C1.txt\n")
    (folder.root / "splits" / "train.split1.bundle").write_text("other.txt\n")
    loop.train(config, str(tmp_path / "runs" / "demo_transeger"))
    videos = tmp_path / "data" / "demo" / "Videos"
    videos.mkdir(parents=True)
    video = folder.root / "Videos" / "S1_Coffee_C1.avi"
    (videos / "S1_Coffee_C1.mp4").symlink_to(video)  # what it holds counts
    monkeypatch.chdir(tmp_path)
    page, names, printed = ROOT / "docs" / "api.md", {}, []
    for code in blocks_of(page, "python"):
        capsys.readouterr()
        exec(compile(code, page.name, "exec"), names)
        printed.append(capsys.readouterr().out)
    shown = blocks_of(page, "")
    assert len(shown) == len([text for text in printed if text])
    assert printed[-2:] == shown[-2:]  # those that depend on no run
