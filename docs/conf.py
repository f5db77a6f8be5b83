"""Settings of the documentation; built by ``make docs``."""

import os
import sys
import warnings
from importlib.metadata import version as _version
from pathlib import Path

# Examples draw into files, and progress of their tools is no part of the page.
os.environ["MPLBACKEND"] = "agg"
# Networks as small as those of the examples train faster on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

sys.path[:0] = [str(Path(__file__).parent / "_extensions"), str(Path(__file__).parents[1])]

project = "nmm_infer"
author = "The nmm_infer developers"
copyright = "the nmm_infer developers, BSD-3-Clause"
release = version = _version("nmm-infer")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "results_tables",
    "study_keys",
]
exclude_patterns = ["_build", "_extensions", "examples", "**.ipynb_checkpoints"]
source_suffix = {".rst": "restructuredtext"}
default_role = "code"
add_module_names = False

autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_.*\.py",
    "ignore_pattern": r"__init__\.py",
    "copyfile_regex": r"",
    "image_scrapers": ("gallery_figures.scraper", "matplotlib"),
    "reset_modules": ("matplotlib",),
    "remove_config_comments": True,
    "show_memory": False,
    "download_all_examples": False,
    "min_reported_time": 0,
    "within_subsection_order": "ExampleTitleSortKey",
    "abort_on_example_error": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "nmm_infer"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
