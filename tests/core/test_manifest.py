"""The build manifest: both forms of the seeds, and a sentence for each field that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prime_core.errors import ProjectError
from prime_core.manifest import Manifest, load_manifest, parse_manifest, write_manifest

FOUR_FIELDS = {
    "image": "registry.example/my-gym-env:latest",
    "port": 8000,
    "start_command": "uvicorn server:app --host 0.0.0.0 --port 8000",
    "contract": "gym",
}
SCHEMA_1 = {
    **FOUR_FIELDS,
    "schema_version": 1,
    "environment_id": "my-env",
    "app": "server.app:app",
    "image_status": "ready",
}


@pytest.fixture
def proj(tmp_path: Path) -> Path:
    folder = tmp_path / "my_env" / "proj"
    folder.mkdir(parents=True)
    return folder


def test_the_four_field_form(proj: Path):
    (proj / ".build.json").write_text(json.dumps(FOUR_FIELDS))
    manifest = load_manifest(proj)
    assert (manifest.image, manifest.port, manifest.contract) == (FOUR_FIELDS["image"], 8000, "gym")
    assert (manifest.environment_id, manifest.image_digest) == (None, None)


def test_schema_1_with_keys_of_others(proj: Path):
    (proj / ".build.json").write_text(json.dumps({**SCHEMA_1, "built_by": "someone", "image_digest": "sha256:00"}))
    manifest = load_manifest(proj)
    assert (manifest.app, manifest.image_digest) == ("server.app:app", "sha256:00")
    assert manifest.as_dict() == {**SCHEMA_1, "built_by": "someone", "image_digest": "sha256:00"}


def test_the_port_is_8000_when_it_is_not_given():
    assert parse_manifest({key: value for key, value in FOUR_FIELDS.items() if key != "port"}).port == 8000


def test_written_sorted_indented_and_read_back(proj: Path):
    manifest = Manifest("prime/alice/my-env:latest", 9000, "run", "mcp", context_digest="ab", build_args={"A": "1"})
    path = write_manifest(proj, manifest)
    text = path.read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    assert load_manifest(proj) == manifest
    assert [item.name for item in proj.iterdir()] == [".build.json"]


def test_a_missing_manifest_says_what_to_run(proj: Path):
    with pytest.raises(RuntimeError) as caught:
        load_manifest(proj)
    assert str(caught.value) == (
        "OpenEnv project is missing .build.json. Run: vf-build my-env (optionally with -p <environments-path>) "
        "to build and register the image."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "Failed to parse OpenEnv build manifest at {path}. Re-run vf-build my-env."),
        ("[]", "Invalid OpenEnv build manifest at {path}: expected a JSON object."),
    ],
)
def test_a_manifest_that_cannot_be_read(proj: Path, text: str, sentence: str):
    (proj / ".build.json").write_text(text)
    with pytest.raises(ProjectError) as caught:
        load_manifest(proj)
    assert str(caught.value) == sentence.format(path=proj / ".build.json")


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("image", "", "`image` must be a non-empty string."),
        ("image", None, "`image` must be a non-empty string."),
        ("start_command", ["a"], "`start_command` must be a non-empty string."),
        ("port", "8000", "`port` must be an integer."),
        ("port", True, "`port` must be an integer."),
        ("port", 70000, "`port` must be between 1 and 65535, not 70000."),
        ("contract", "chess", "`contract` must be either 'gym' or 'mcp'."),
        ("contract", ["gym"], "`contract` must be either 'gym' or 'mcp'."),
        ("schema_version", 2, "`schema_version` 2 is not known here, only 1."),
        ("app", 1, "`app` must be a string."),
        ("build_args", [], "`build_args` must be an object."),
    ],
)
def test_a_wrong_field(proj: Path, field: str, value: object, sentence: str):
    (proj / ".build.json").write_text(json.dumps({**SCHEMA_1, field: value}))
    with pytest.raises(ProjectError) as caught:
        load_manifest(proj)
    assert str(caught.value) == f"Invalid .build.json: {sentence} Run: vf-build my-env to build and register the image."


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "proj").write_text("a file")
    with pytest.raises(ProjectError, match=r"The build manifest .* cannot be written"):
        write_manifest(tmp_path / "proj", Manifest("x", start_command="y"))
