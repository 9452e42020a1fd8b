"""run train processes=N: one training run that uses several processes on this machine."""

import os
import signal
from collections.abc import Sequence

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from runner.errors import Interrupted, UserError
from runner.training.distributed import LAUNCHED
from runner.workers import begin_worker, share_cores

RESUMES = "the same command resumes from the last checkpoint"


def start(words: Sequence[str], count: int) -> int:
    """Start the same command in `count` processes that share one training run.

    Returns:
        the exit code.

    Raises:
        UserError: a process was killed.
        Interrupted: the user pressed Ctrl-C.
    """
    share_cores(count)
    # The store is created here, so that no other program can take the port before the processes connect to it.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = start_processes(_work, (list(words), count, store.port), nprocs=count, join=False, start_method="spawn")
    try:
        while not context.join():
            pass
    except KeyboardInterrupt:
        for process in context.processes:
            process.terminate()
            process.join()
        raise Interrupted(RESUMES) from None
    except ProcessExitedException as error:
        if error.signal_name:
            killed = f"process {error.error_index} of {count} was ended ({error.signal_name})"
            raise UserError(f"{killed}, and the others with it; {RESUMES}") from None
        return error.exit_code
    return 0


def _work(rank: int, words: Sequence[str], count: int, port: int) -> None:
    """Run the command in one of the processes, with the environment that torchrun would set."""
    from runner.cli import main

    begin_worker()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent process reports the interruption
    os.environ |= {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), LAUNCHED: "1"},
        **{"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"},  # use the store above
    }
    main(words)
