"""The index of a project's source: modules, imports, classes and their bases."""

import pytest

from ckptmigrate.codemod.source.project import Project
from ckptmigrate.errors import SourceError


def write(folder, **files):
    """Files by their names, `__` for a directory: `nets__encoder`."""
    for name, text in files.items():
        file = folder.joinpath(*name.split("__")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Project.read([folder])


def package(folder, *names):
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text("")


def test_bases_are_followed_through_imports_and_reexports(tmp_path):
    package(tmp_path, "nets")
    project = write(
        tmp_path,
        nets__base="import keras\nclass Base(keras.layers.Layer): pass\n",
        nets__encoder="from .base import Base as B\nclass Encoder(B): pass\n",
        nets____init__="",
        app="from nets import encoder\nimport nets.base as nb\nclass App(encoder.Encoder, nb.Base): pass\n",
    )
    assert project.find_class("App").bases == ("nets.encoder.Encoder", "nets.base.Base")
    assert project.find_class("Encoder").bases == ("nets.base.Base",)
    assert project.find_class("Base").bases == ("keras.layers.Layer",)
    below = project.descendants(project.find_class("Base"))
    assert {each.name for each in below} == {"nets.encoder.Encoder", "app.App"}
    assert project.outside_bases(project.find_class("App")) == ("keras.layers.Layer",)


def test_a_package_may_say_again_what_its_modules_have(tmp_path):
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("from nets.base import Base\n")
    project = write(tmp_path, nets__base="class Base: pass\n", app="import nets\nclass App(nets.Base): pass\n")
    assert project.find_class("App").bases == ("nets.base.Base",)


def test_source_below_another_directory_is_imported_by_the_end_of_its_name(tmp_path):
    project = write(
        tmp_path, src__nets__base="class Base: pass\n", tests__t="from nets.base import Base\nclass T(Base): pass\n"
    )
    assert project.find_class("T").bases == ("src.nets.base.Base",)


def test_a_file_with_the_name_of_another_package_is_not_that_package(tmp_path):
    project = write(tmp_path, style__keras="class Model: pass\n", m="import keras\nclass A(keras.Model): pass\n")
    assert project.find_class("A").bases == ("keras.Model",)


def test_nested_classes_are_found_from_inside(tmp_path):
    project = write(
        tmp_path, m="class Outer:\n    class Inner: pass\n    class More(Inner): pass\nclass Late(Outer.Inner): pass\n"
    )
    assert project.find_class("More").bases == ("m.Outer.Inner",)
    assert project.find_class("Late").bases == ("m.Outer.Inner",)


def test_another_name_for_a_module_is_followed(tmp_path):
    project = write(tmp_path, m="import tensorflow as tf\nlayers = tf.keras.layers\nclass A(layers.Layer): pass\n")
    assert project.find_class("A").bases == ("tensorflow.keras.layers.Layer",)


def test_a_base_that_is_computed_is_not_known(tmp_path):
    project = write(tmp_path, m="class A(make()): pass\n")
    assert project.find_class("A").bases == ("?",)


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("class A: pass\n", "B", "no such class"),
        ("class Encoder: pass\n", "Encodr", "Is it Encoder"),
        ("class X:\n    class A: pass\nclass A: pass\n", "A", "several classes of this name"),
        ("if 1:\n    class A: pass\nelse:\n    class A: pass\n", "A", "a class that is defined twice"),
    ],
)
def test_a_name_that_is_not_one_class_is_told(tmp_path, source, name, said):
    project = write(tmp_path, m=source)
    with pytest.raises(SourceError, match=said):
        project.find_class(name)


def test_a_file_that_does_not_parse_is_named_and_the_others_are_there(tmp_path):
    project = write(tmp_path, good="class A: pass\n", bad="class B(:\n")
    assert project.find_class("A").name == "good.A"
    ((problem),) = project.problems
    assert "bad.py:1" in str(problem)


def test_no_python_is_told(tmp_path):
    with pytest.raises(SourceError, match="no Python files"):
        Project.read([tmp_path])
    with pytest.raises(SourceError, match="no such file"):
        Project.read([tmp_path / "nowhere"])


def test_places_are_in_characters_and_line_ends_are_kept(tmp_path):
    (tmp_path / "m.py").write_bytes('"é"; class_ = 1\r\nclass A: "ü"; x = 1\r\n'.encode())
    project = Project.read([tmp_path])
    (module,) = project.modules
    assert module.source.count("\r\n") == 2
    assert module.place(module.tree.body[1]).column == 6
    assert str(project.find_class("A").place).endswith("m.py:2")
