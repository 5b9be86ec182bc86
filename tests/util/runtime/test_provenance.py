"""What a result depends on: every file of the project that its code imports, however the import is written."""

import pytest

from util.runtime import provenance
from util.runtime.errors import InputError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project: packages with an ``__init__.py`` that imports, one without, and a strategy."""
    files = {
        "strategy.py": "from rooms.deep.tool import measure\nfrom table import look_up\n",
        "table/__init__.py": "from table.entries import ENTRIES\ndef look_up(): ...\n",
        "table/entries.py": "from . import words\nENTRIES = []\n",
        "table/words.py": "",
        "table/member.py": "from table.words import first\nfrom .words import last\n",
        "rooms/__init__.py": "import rooms.door\n",
        "rooms/door.py": "",
        "rooms/deep/__init__.py": "",
        "rooms/deep/tool.py": "from ..wide import open_wide\nfrom ...strategy_of_others import x\n",
        "rooms/wide.py": "",
        "rooms/unused.py": "",
        "bare/module.py": "",
        "uses_bare.py": "import numpy, bare.module\n",
        "takes_from_own.py": "from table.member import something\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    provenance.project_imports.cache_clear()
    yield tmp_path
    provenance.project_imports.cache_clear()


def found(project, name):
    return {file.relative_to(project).as_posix() for file in provenance.project_imports(project / name)}


def test_packages_on_the_way_and_relative_imports_count(project):
    assert found(project, "strategy.py") == {
        "strategy.py",
        "table/__init__.py",
        "table/entries.py",
        "table/words.py",
        "rooms/__init__.py",
        "rooms/door.py",
        "rooms/deep/__init__.py",
        "rooms/deep/tool.py",
        "rooms/wide.py",
    }


def test_a_member_does_not_depend_on_its_own_package(project):
    assert found(project, "table/member.py") == {"table/member.py", "table/words.py"}


def test_what_takes_a_name_from_its_own_package_depends_on_it(project):
    (project / "table/member.py").write_text("from . import look_up\n")
    assert found(project, "table/member.py") == {
        "table/member.py",
        "table/__init__.py",
        "table/entries.py",
        "table/words.py",
    }


def test_a_package_without_init_is_followed(project):
    assert found(project, "uses_bare.py") == {"uses_bare.py", "bare/module.py"}


@pytest.mark.parametrize("edited", ["rooms/__init__.py", "rooms/door.py", "rooms/wide.py", "table/words.py"])
def test_an_edit_anywhere_on_the_way_changes_the_digest(project, edited):
    before = provenance.code_digest([project / "strategy.py"])
    (project / edited).write_text("changed = True\n")
    provenance.project_imports.cache_clear()
    assert provenance.code_digest([project / "strategy.py"]) != before


def test_an_edit_elsewhere_does_not(project):
    before = provenance.code_digest([project / "strategy.py"])
    (project / "rooms/unused.py").write_text("changed = True\n")
    provenance.project_imports.cache_clear()
    assert provenance.code_digest([project / "strategy.py"]) == before


def test_code_is_named_by_what_it_defines():
    from merge import STRATEGIES
    from util.data.labels import decode_label

    assert provenance.source_file(STRATEGIES["max_iou"]).name == "max_iou.py"
    assert provenance.source_file(decode_label).name == "labels.py"
    assert provenance.source_file(provenance).name == "provenance.py"


def test_strategies_do_not_depend_on_each_other():
    from merge import STRATEGIES

    files = {file.name for file in provenance.project_imports(provenance.source_file(STRATEGIES["grow"]))}
    assert {"grow.py", "merge_base.py"} <= files and not {"max_iou.py", "merge_customize.py"} & files


def test_broken_code_is_named(project):
    (project / "rooms/door.py").write_text("def broken(:\n")
    with pytest.raises(InputError, match="door.py, line 1"):
        provenance.project_imports(project / "strategy.py")
