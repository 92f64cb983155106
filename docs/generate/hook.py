"""What mkdocs calls: the pages that are made from the code join those that are written by hand."""

import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # so that the manual is of this source tree, whatever is installed

from docs.generate import api, layers, measurements, notebooks  # noqa: E402


def on_config(config):
    families = [{title: [{name: layers.path_of(name)} for name in names]} for title, names in layers.families().items()]
    titles = [next(iter(entry)) for entry in config.nav]
    config.nav[titles.index("The numbers")]["The numbers"] += measurements.pages().keys()
    config.nav.insert(titles.index("Cookbook") + 1, {"Layers": [layers.INDEX, *families]})
    config.nav.insert(1, {"Notebooks": [{notebooks.title_of(s): notebooks.path_of(s)} for s in notebooks.sources()]})
    config.nav.append({"All names": api.PAGE})
    return config


def on_files(files, config):
    made = {**layers.pages(), api.PAGE: api.page(), **measurements.pages(), **notebooks.pages()}
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files
