"""`minilm-lab COMMAND [hydra overrides]`: finds the command and hands over to Hydra, as its users know it."""

from __future__ import annotations

import errno
import functools
import importlib
import io
import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError

log = logging.getLogger(__name__)

#: Command -> what `minilm-lab --help` says of it. Each is a module of this package with `run(cfg)`.
COMMANDS = {
    "distill": "distil a teacher into a student",
    "pretrain": "train a masked-LM head for a teacher that has none",
    "finetune": "fine-tune a student, a teacher or any checkpoint on a downstream task and score it",
    "evaluate": "measure a student, a teacher or any model without training",
    "halve": "half the layers of any sentence encoder, measured, as a folder for sentence-transformers",
    "recommend": "say who would come to a film that is only a text yet (docs/movies.md)",
    "author": "write for products: advertisements, titles, departments, answers, by a model tuned on task=authoring",
    "expand": "let a teacher answer what nobody answered, for task=authoring: filtered, journalled, within a budget",
    "table": "run what a table of experiments/ still misses, and render it",
    "bench": "measure a distillation step on this machine against what other code does",
    "inspect": "show what a model is: shape, parameters, where Q, K, V are, which relation heads are possible",
    "speed": "measure parameters and forward times of several models on this machine (MiniLM, table 4)",
    "merrec": "the benchmark MerRec: its files, or a month generated to its statistics, measured (docs/merrec.md)",
    "export": "write a student for others: Hugging Face, sentence-transformers, ONNX, int8 ONNX",
    "rerun": "do a recorded run again elsewhere and compare: metrics, weights, scores, to the bit",
    "report": "write one HTML page of every table, with plots",
    "runs": "list runs: state, name, loss or score, age",
    "sync": "upload the W&B runs that were kept offline",
    "dashboard": "save a W&B workspace with the panels for comparing students",
}

_SPACE, _MOUNT = (
    "Free some space",
    "Look at the disk (mount, dmesg), or point paths.runs and paths.cache elsewhere,",
)
#: What the system says of its disks, no fault of the lab, and what to do about it.
OF_THE_SYSTEM = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: _SPACE,
    errno.EROFS: _MOUNT,
    errno.EIO: _MOUNT,
    errno.ESTALE: _MOUNT,
    errno.ENAMETOOLONG: "Give a shorter name",
    errno.EACCES: "Give yourself the right to it (ls -l), or point paths.runs and paths.cache elsewhere,",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENFILE: "Raise the limit of open files (ulimit -n)",
}
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack a letter; that is no reason to stop
            stream.reconfigure(errors="replace")
    try:
        _dispatch(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has gone: `minilm-lab … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _dispatch(arguments: list[str]) -> None:
    if _completing(arguments):
        return
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return
    if arguments[0] == "--version":
        from minilm_lab import __version__

        print(f"minilm-lab {__version__}")
        return
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        from minilm_lab.errors import nearest

        _fail(f"'{command}' is not a command.{nearest(command, COMMANDS)} Commands: {', '.join(COMMANDS)}")
    _run(command, rest)


@dataclass(frozen=True)
class Job:
    """A command as Hydra calls it; `--help` and `--cfg` never do, and so import none of the libraries behind it."""

    command: str

    def __call__(self, cfg: Any) -> Any:
        """Do the command with a composed config."""
        from hydra.core.hydra_config import HydraConfig

        prepare_process()  # a launcher's jobs are processes of their own
        # hydra.job.chdir=true: a run has a folder of its own, and relative paths mean where the command was typed.
        if HydraConfig.initialized():
            os.chdir(HydraConfig.get().runtime.cwd)
        return importlib.import_module(f"minilm_lab.commands.{self.command}").run(cfg)


def _run(command: str, rest: list[str]) -> None:
    from minilm_lab.commands import composing
    from minilm_lab.runs import stopping

    prepare_process()
    job = Job(command)
    # Let errors through Hydra: they are told below, without a traceback through libraries.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # A cluster asks with SIGTERM: training ends with a checkpoint, anything else as after Ctrl-C.
    signal.signal(signal.SIGTERM, stopping.terminate)
    try:
        words = rest
        if command == "table" and any(word.startswith("name=") for word in rest):
            from minilm_lab.commands.tables.spec import with_table

            words = with_table(rest)
        sys.argv = [f"minilm-lab {command}", *composing.expand(composing.of_command(command, words))]
        if {"-m", "--multirun"} & set(rest):
            _multirun(command, job, sys.argv[1:])
        else:
            _single(command, job)
    except LabError as error:
        _fail(str(error))
    except composing.COMPOSITION_ERRORS as error:
        _fail(composing.explain(error, command, rest))
    except OSError as error:
        if error.errno not in OF_THE_SYSTEM:
            raise
        what = (
            "could not be written, what was there before is whole" if error.errno in UNWRITABLE else "failed"
        )
        _fail(
            f"{error.strerror}: {error.filename or 'a file'} {what}. {OF_THE_SYSTEM[error.errno]} and start the same "
            "command again: it goes on from the last checkpoint"
        )
    except stopping.Terminated as error:
        # 128 + 15: what a shell says of a job that ended by SIGTERM; launchers that requeue look for it.
        _fail(f"{error}; start the same command again and it goes on from the last checkpoint", code=143)
    except KeyboardInterrupt:
        _fail("interrupted; start the same command again and it goes on from the last checkpoint", code=130)


def _single(command: str, run: Callable[[Any], Any]) -> None:
    """One job; what is wrong is told by our own message, not after Hydra's list of all overrides."""
    wrong: list[LabError] = []

    @functools.wraps(run)
    def job(cfg: Any) -> Any:
        try:
            return run(cfg)
        except LabError as error:
            wrong.append(error)

    _hydra(command, job)()
    if wrong:
        raise wrong[0]


def _multirun(command: str, run: Callable[[Any], Any], words: list[str]) -> None:
    """Every job is tried; at the end stands what came out of each, and those that failed are named."""
    from minilm_lab.commands import multirun, slurm
    from minilm_lab.commands.composing import compose_command
    from minilm_lab.reports.multirun import text

    folder = multirun.begin(command, words, Path(compose_command(command, multirun.shared(words)).paths.runs))
    stopped: Exception | None = None
    chosen = [word.partition("=")[2] for word in words if word.startswith("hydra/launcher=")]
    try:
        with slurm.waiting(chosen[-1] if chosen else ""):
            _hydra(command, multirun.noted(command, run))()
    except Exception as error:
        stopped = error
    finally:
        multirun.end()
    notes = multirun.notes(folder)
    table = text(notes, *multirun.RETURNS[command]) if command in multirun.RETURNS else ""
    if table:
        print(f"\n{table}\nagain: minilm-lab runs multirun={folder.name}")
    failed = multirun.failures(notes)
    if failed:
        jobs = "\n  ".join(failed)
        message = f"{len(failed)} jobs failed; the same command tries them again, and no other:\n  {jobs}"
        raise LabError(message) from stopped
    if stopped is not None:
        raise stopped


def _hydra(command: str, run: Callable[[Any], Any]) -> Callable[[], Any]:
    import hydra

    from minilm_lab.commands.composing import conf_folder

    return hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=command)(run)


def prepare_process() -> None:
    """Quiet libraries and a plain log: time, message."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("minilm_lab").setLevel(logging.INFO)
    for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    for name, value in (
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("WANDB_SILENT", "true"),
        ("TOKENIZERS_PARALLELISM", "true"),
    ):
        os.environ.setdefault(name, value)
    _find_a_home()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")


def _find_a_home() -> None:
    """Where HOME cannot be written to, give libraries another place for caches and settings, and say so."""
    home = Path(os.environ.get("HOME") or "/")
    places = {
        "XDG_CACHE_HOME": "cache",
        "XDG_CONFIG_HOME": "config",
        "XDG_DATA_HOME": "data",
        "WANDB_CONFIG_DIR": "config/wandb",
        "WANDB_CACHE_DIR": "cache/wandb",
        "WANDB_DATA_DIR": "data/wandb",
        "MPLCONFIGDIR": "config/matplotlib",
    }
    missing = [name for name in places if name not in os.environ]
    if (home.is_dir() and os.access(home, os.W_OK)) or not missing:
        return
    folder = Path(tempfile.gettempdir()) / f"minilm-lab-{os.getuid()}"
    for name in missing:
        os.environ[name] = str(folder / places[name])
        (folder / places[name]).mkdir(mode=0o700, parents=True, exist_ok=True)
    log.warning("HOME=%s cannot be written to: libraries keep their caches and settings in %s", home, folder)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "minilm-lab COMMAND [group=option] [group.key=value] …",
            "",
            *lines,
            "",
            "Every command is a Hydra application:",
            "  minilm-lab COMMAND --help      its groups and their options",
            "  minilm-lab COMMAND --cfg job   the composed config",
            "  minilm-lab COMMAND -m a=1,2    a multirun over values",
            '  eval "$(minilm-lab distill -sc install=bash)"   tab completion',
        ]
    )


def _completing(arguments: list[str]) -> bool:
    """Answer the shell's question for completions: `minilm-lab -sc query=bash`, the line in COMP_LINE."""
    if len(arguments) < 2 or arguments[0] != "-sc" or not arguments[1].startswith("query="):
        return False
    words = os.environ.get("COMP_LINE", "").split(" ")
    command = words[1] if len(words) > 1 else ""
    if command not in COMMANDS or len(words) < 3:
        print(" ".join(name for name in COMMANDS if name.startswith(command)))
        return True
    # Hydra completes overrides of one application: leave the command out of the line.
    os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    _run(command, arguments)
    return True


def _fail(message: str, code: int = 1) -> None:
    print(f"minilm-lab: {message}", file=sys.stderr)
    sys.exit(code)
