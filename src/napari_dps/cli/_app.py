"""The program: which verbs there are, and what becomes of an error."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnknownCommandError
from pydantic import ValidationError

from napari_dps.cli import (
    calibrate,
    camera,
    catalogue,
    demo,
    doctor,
    evaluate,
    priors,
    psf,
    reconstruct,
    sample,
    simulate,
    train,
)
from napari_dps.cli._errors import parser_sentence, validation_sentence
from napari_dps.cli._options import Chosen, first_pass
from napari_dps.cli._terminal import complain
from napari_dps.components import nearest
from napari_dps.errors import DPSError

DONE, OURS, MISTAKE, INTERRUPTED = 0, 1, 2, 130

VERBS = {
    "demo": demo,
    "reconstruct": reconstruct,
    "simulate": simulate,
    "sample": sample,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "camera": camera,
    "psf": psf,
    "train": train,
    "list": catalogue,
    "priors": priors,
    "doctor": doctor,
}


def _version() -> str:
    import napari_dps

    return napari_dps.__version__


def build_app(verb: str, chosen: Chosen | None) -> App:
    """Return the parser; only the verb that is called gets the options of its components."""
    app = App(
        name="napari-dps",
        version=_version,
        help="Restore photon-starved microscopy images, with error bars.",
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
        help_epilogue="`napari-dps VERB --help` tells more; `napari-dps list` shows what there is.",
    )
    for name, module in VERBS.items():
        own = chosen if name == verb and chosen is not None else Chosen()
        app.command(module.command(own), name=name)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after the program's name; those of this process where left out.

    Returns
    -------
    int
        0 done, 2 the user's mistake, 1 ours, 130 stopped by Ctrl-C.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    verb = tokens[0] if tokens and tokens[0] in VERBS else ""
    chosen: Chosen | None = None
    try:
        groups = VERBS[verb].GROUPS if verb else ()
        chosen = first_pass(tokens[1:], groups) if groups else None
        code = build_app(verb, chosen)(
            tokens, exit_on_error=False, print_error=False, result_action="return_value"
        )
        return code if isinstance(code, int) else DONE
    except UnknownCommandError:
        asked = next((token for token in tokens if not token.startswith("-")), tokens[0])
        complain(f"there is no command {asked!r}; {nearest(asked, list(VERBS))}")
    except CycloptsError as error:
        complain(parser_sentence(error, verb, chosen))
    except ValidationError as error:
        complain(validation_sentence(error))
    except DPSError as error:
        complain(str(error))
    except KeyboardInterrupt:
        complain("stopped; nothing was written")
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has left (`| head`); what the interpreter flushes at its end too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        traceback.print_exc()
        complain(f"this is a bug in napari-dps: {type(error).__name__}: {error}")
        return OURS
    return MISTAKE
