"""Show figures that were made without pyplot, such as those of the report."""

from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

_seen = WeakSet()


def scraper(block, block_vars, gallery_conf):
    """Save every new figure that is bound to a name in the example.

    Stands before the scraper of pyplot, which closes its figures: an open one is left to it.
    """
    names = []
    for value in list(block_vars["example_globals"].values()):
        if not isinstance(value, Figure) or value in _seen:
            continue
        _seen.add(value)
        if value.canvas.manager is None:
            path = next(block_vars["image_path_iterator"])
            value.savefig(path, dpi=110)
            names.append(path)
    return figure_rst(names, gallery_conf["src_dir"])
