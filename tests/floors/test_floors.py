"""A file imports only from floors below its own; on its own floor only along the listed order."""

import ast
from pathlib import Path

import wengert

ROOT = Path(wengert.__file__).parent
FLOORS = [
    # errors may be read by everybody; on each floor a file may import those before it
    ["version", "source", "errors", "extras", "types", "tree", "given", "random"],
    ["native", "nest", "owned", "region", "nodes", "trace", "draws"],
    ["structural", "primitive", "graph", "hollow"],
    [
        "ops.gauss_native", "ops.accurate", "ops.slopes", "native.mathematics", "ops.linear",
        "ops.index", "ops.elementwise", "ops.products", "ops.contract",
        "ops.order", "ops.scan", "ops.matrix", "ops.linalg", "ops.spectral", "ops.singular",
        "ops.fft", "ops.special_values", "ops.special_integrals", "ops.special_lines",
        "ops.special", "ops.fused", "ops.conv_native", "ops.conv_tiles", "ops.conv_direct",
        "ops.conv_kernels", "ops.conv",
        "ops.pool_native", "ops.pool_kernels", "ops.pool",
        "ops.norm", "ops.embedding", "ops.dropout", "ops.attention_tiles",
        "ops.attention_native", "ops.attention", "ops.losses", "ops.ctc", "ops.spatial",
        "ops.recurrent_tiles", "ops.recurrent_native", "ops.recurrence",
        "ops.recurrent", "ops.road", "ops.kinks", "ops.operators", "ops.neural", "ops",
    ],
    [
        "transforms.severed", "transforms.store", "transforms.conventions", "transforms.wrapped",
        "transforms.tape", "transforms.mutate", "transforms.jvp", "transforms.vmap",
        "transforms.vjp", "transforms.jacobian", "transforms.staging", "transforms.weighing",
        "create",
        "transforms.between", "transforms.residuals", "transforms.disk", "transforms.hooks",
        "transforms.modes", "transforms.pairing", "transforms.law", "transforms.closure",
        "transforms.custom",
        "transforms.external", "transforms.linearize", "transforms.function",
        "transforms.collective", "transforms.methods", "transforms.variable",
        "transforms.gradient_tape", "transforms.custom_gradient", "transforms.around",
        "transforms.inside", "transforms.outside", "transforms.replay", "transforms.checkpoint",
        "transforms.budget", "transforms.peel", "transforms.revolve", "transforms.control",
        "transforms.implicit", "transforms.argmin", "transforms.ode", "transforms.series",
        "transforms.taylor", "transforms.curvature", "transforms.estimators", "transforms.unroll",
        "transforms.memory", "transforms.explain", "transforms.fixes", "transforms.born",
        "transforms.debug", "transforms",
    ],
    [
        "compile", "compile.live", "compile.guards", "compile.effects", "compile.walk",
        "compile.world", "compile.recorded", "compile.lawful", "compile.capture", "compile.runs",
        "compile.dispatch", "compile.memory", "compile.passes", "compile.views", "compile.kernel",
        "compile.fusion", "compile.assemble", "compile.lower", "compile.schedule",
        "compile.storage", "compile.collapse", "compile.backends.layout",
        "compile.backends.calls", "compile.backends.numpy", "compile.backends",
        "compile.backends.llvm", "compile.partition", "compile.apply", "compile.report",
        "compile.jit",
    ],
    ["numpy", "autograd", "numeric", "symbolic", "comparison"],
    ["nn", "optim", "amp", "data", "train", "sklearn", "parallel"],
    ["testing", "viz", "studio", "cli", "__main__", ""],
]  # fmt: skip


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def place(module):
    """(floor, position on it) of the longest listed prefix of a module's name."""
    for n in range(module.count(".") + 1, -1, -1):
        prefix = ".".join(module.split(".")[:n])
        for f, files in enumerate(FLOORS):
            if prefix in files:
                return f, files.index(prefix)
    raise AssertionError(f"{module} stands on no floor")


def imports(path):
    """(imported module of wengert, line, whether inside a function) of a file."""
    package = ["wengert", *path.relative_to(ROOT).parts[:-1]]
    tree = ast.parse(path.read_text())
    inside = {
        id(n)
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)
        for n in ast.walk(f)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = ".".join([*base, *([node.module] if node.module else [])])
            if full == "wengert" or full.startswith("wengert."):
                for alias in node.names:
                    name = f"{full}.{alias.name}"
                    is_module = (ROOT.parent / name.replace(".", "/")).with_suffix(
                        ".py"
                    ).exists() or (ROOT.parent / name.replace(".", "/")).is_dir()
                    target = (name if is_module else full).removeprefix("wengert").lstrip(".")
                    yield target, node.lineno, id(node) in inside
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "wengert":
                    yield (
                        alias.name.removeprefix("wengert").lstrip("."),
                        node.lineno,
                        id(node) in inside,
                    )


def drawing(found):
    """The floors as they are, for the message of a failure."""
    lines = []
    for f in range(len(FLOORS) - 1, -1, -1):
        rows = sorted(m for m in found if place(m)[0] == f)
        lines.append(f"  {f}  {'  '.join(rows)}")
    return "\n".join(["the floors that were found:", *lines])


def test_floors():
    files = {module_of(p): p for p in ROOT.rglob("*.py")}
    wrong = []
    for module, path in files.items():
        mine = place(module)
        for target, line, lazy in imports(path):
            theirs = place(target)
            group = module.split(".")[0]
            same_package = mine == theirs and target.split(".")[0] == group
            allowed = (
                theirs[0] < mine[0]
                or (theirs[0] == mine[0] and theirs[1] < mine[1])
                or same_package
            )
            if not allowed:
                wrong.append(
                    f"{module}:{line} imports {target or 'wengert'} from floor {theirs[0]}"
                )
            if lazy and mine[0] < 7:
                wrong.append(f"{module}:{line} imports {target} inside a function")
    assert not wrong, "\n".join([*wrong, drawing(files)])


def test_no_import_cycles():
    files = {module_of(p): p for p in ROOT.rglob("*.py")}
    edges = {m: {t for t, _, _ in imports(p) if t in files and t != m} for m, p in files.items()}
    done, trail = set(), []

    def visit(m):
        assert m not in trail, " -> ".join([*trail[trail.index(m) :], m])
        if m in done:
            return
        trail.append(m)
        for t in edges[m]:
            if not m.startswith(t + ".") and t != "":  # a package's own __init__ gathers its files
                visit(t)
        trail.pop()
        done.add(m)

    for m in sorted(files):
        visit(m)


def test_a_file_stays_a_room():
    long = {}
    for p in ROOT.rglob("*.py"):
        text = p.read_text().splitlines()
        if len(text) > 620:
            long[module_of(p)] = len(text)
    assert not long, f"files of more than about 600 lines: {long}"


def test_the_checker_sees_a_wrong_import(tmp_path, monkeypatch):
    fake = ROOT / "trace.py"
    assert place("trace") < place("ops.linear") < place("transforms.tape") < place("nn.layers")
    assert "ops.linear" not in {t for t, _, _ in imports(fake)}
