"""Show figures that were made without pyplot, such as those of the report."""

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

_shown: set[int] = set()


def scraper(block, block_vars, gallery_conf):
    """Save every new figure that is bound to a name in the example."""
    figures = {
        id(value): value
        for value in block_vars["example_globals"].values()
        if isinstance(value, Figure) and value.canvas.manager is None
    }
    names = []
    for key, figure in figures.items():
        # The figures stay bound in the example, so an id is not used twice within it.
        if key in _shown:
            continue
        _shown.add(key)
        path = next(block_vars["image_path_iterator"])
        figure.savefig(path, dpi=110)
        names.append(path)
    return figure_rst(names, gallery_conf["src_dir"])
