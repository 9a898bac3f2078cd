"""Draw tables, views and verdicts as figures and as one HTML page.

In: arrays and tables. Out: Matplotlib figures and bytes. It knows no path and imports no torch.
"""

import os
import sys

if "MPLBACKEND" in os.environ:
    try:
        import matplotlib as matplotlib
    except ValueError:
        # The backend is not installed, as that of notebooks, whose kernel may be of another
        # environment. No figure uses a backend. What was imported in part is imported again.
        for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
            del sys.modules[name]
        backend = os.environ.pop("MPLBACKEND")
        try:
            import matplotlib as matplotlib
        finally:
            os.environ["MPLBACKEND"] = backend
