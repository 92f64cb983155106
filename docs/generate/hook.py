"""What mkdocs calls: the pages that are made from the code join those that are written by hand."""

import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # so that the manual is of this source tree, whatever is installed

from docs.generate import api, layers, measurements  # noqa: E402


def on_config(config):
    families = [{title: [{name: layers.path_of(name)} for name in names]} for title, names in layers.families().items()]
    titles = [next(iter(entry)) for entry in config.nav]
    config.nav[titles.index("The numbers")]["The numbers"] += measurements.pages().keys()
    config.nav.insert(titles.index("Cookbook") + 1, {"Layers": [layers.INDEX, *families]})
    config.nav.append({"All names": api.PAGE})
    return config


def on_files(files, config):
    for path, text in {**layers.pages(), api.PAGE: api.page(), **measurements.pages()}.items():
        files.append(File.generated(config, path, content=text))
    return files
