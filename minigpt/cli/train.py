"""`minigpt train`."""

from minigpt.errors import UserError

_TRAIN_USAGE = """\
usage: minigpt train CONFIG [--section.key VALUE ...]
       minigpt train --resume RUN

CONFIG is a preset's name (`minigpt presets` lists them) or a TOML file; options overrule what it says.
RUN is the directory of a run or its name (`minigpt runs` lists them).
The first Ctrl+C saves a checkpoint and ends, the second ends at once.
"""


def train(arguments: list[str]) -> int:
    from minigpt.inert import inert_line

    if not arguments or {"-h", "--help"} & set(arguments):
        from minigpt.options import options_help

        print(_TRAIN_USAGE + "\n" + options_help(), end="")
        return 0 if arguments else 2
    resume = _take_resume(arguments)
    if resume is None and arguments[0].startswith("-"):
        raise UserError(
            f"{inert_line(arguments[0])}: the preset or TOML file comes first: minigpt train CONFIG [--option ...]"
        )
    from minigpt.headless import run_headless
    from minigpt.session import TrainingSession

    if resume is not None:
        from minigpt.rundir import RunDirectory

        if arguments:
            raise UserError(
                f"{inert_line(arguments[0])}: --resume goes on with the run's own configuration and takes no options"
            )
        return run_headless(TrainingSession(resume=RunDirectory.open(resume)))
    from minigpt.configfile import load_config
    from minigpt.options import parse_overrides
    from minigpt.presets import find_target

    config = load_config(arguments[0], parse_overrides(arguments[1:]))
    return run_headless(TrainingSession(config=config, preset=find_target(arguments[0]).stem))


def _take_resume(arguments: list[str]) -> str | None:
    for index, argument in enumerate(arguments):
        option, has_value, value = argument.partition("=")
        if option == "--resume":
            if not has_value and index + 1 == len(arguments):
                raise UserError("--resume: needs the directory or the name of a run; `minigpt runs` lists them")
            resumed = value if has_value else arguments[index + 1]
            del arguments[index : index + (1 if has_value else 2)]
            return resumed
    return None
