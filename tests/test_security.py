"""What SECURITY.md says of loading holds for the source, and for a model folder that wants to run code."""

import ast
import pickle
import shutil
from pathlib import Path

import pytest

import foster
from foster.errors import InputError
from foster.text.encoder import TextEncoder
from foster.text.options import EncoderOptions

SOURCE = Path(foster.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
OF_PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def faults_of(text: str) -> list[str]:
    """Return what a module does that could run code out of a file."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {name}" for name in names if name.split(".")[0] in OF_PICKLES]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called in ("eval", "exec"):
                found.append(called)
            if called == "torch.load" and given.get("weights_only") != "True":
                found.append("torch.load without weights_only=True")
            if called == "np.load" and given.get("allow_pickle", "False") != "False":
                found.append("np.load with pickles")
            if called.endswith(("read_pickle", "unsafe_load", "torch.hub.load")):
                found.append(called)
            if given.get("trust_remote_code", "False") != "False":
                found.append("trust_remote_code")
            # Without it, transformers asks whoever sits at stdin.
            of_transformers = called.startswith("Auto") and called.endswith(".from_pretrained")
            if of_transformers and not {"trust_remote_code", None} & given.keys():
                found.append(f"{called} leaves trust_remote_code open")
        elif isinstance(node, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            for key, value in zip(keys, node.values, strict=True):
                if key == "trust_remote_code" and ast.unparse(value) != "False":
                    found.append("trust_remote_code")
    return found


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("import pickle", "imports pickle"),
        ("from joblib import load", "imports joblib"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("np.load(path, allow_pickle=True)", "np.load with pickles"),
        ("x(trust_remote_code=True)", "trust_remote_code"),
        ("x = {'trust_remote_code': asked}", "trust_remote_code"),
        ("AutoModel.from_pretrained(x)", "AutoModel.from_pretrained leaves trust_remote_code open"),
        ("eval(text)", "eval"),
    ],
)
def test_the_look_at_the_source_finds_faults(text, fault):
    assert faults_of(text) == [fault]


def test_no_module_loads_pickles_or_code():
    assert len(FILES) > 100
    found = {str(path.relative_to(SOURCE)): faults for path in FILES if (faults := faults_of(path.read_text("utf-8")))}
    assert found == {}


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickled_weights_that_run_code_are_refused(tiny_encoder, tmp_path):
    """A file of the old form of torch is a plain pickle."""
    folder, trace = shutil.copytree(tiny_encoder, tmp_path / "encoder"), tmp_path / "was-here"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(InputError, match="not loadable as an encoder"):
        TextEncoder.load(EncoderOptions(encoder=str(folder)))
    assert not trace.exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert trace.exists()  # it would have been
