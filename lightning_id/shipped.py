"""The configuration files that come with the package, by name from any folder."""

from pathlib import Path

HERE = Path(__file__).parent
# A wheel has them inside of the package, a clone beside it.
FOLDERS = (HERE / "configs", HERE.parent / "configs")


def find_config(name: str) -> str:
    """Return the path of a shipped configuration file, or the name itself if there is none.

    Args:
        name: A path, which is taken if it exists, or the name of a shipped file such as
            ``"mnist.yaml"``.

    Returns:
        A path.

    Example:
        >>> Path(find_config("mnist.yaml")).parent.name
        'configs'
        >>> find_config("mine.yaml")
        'mine.yaml'
    """
    shipped = [folder / name for folder in FOLDERS if (folder / name).is_file()]
    return name if Path(name).exists() or not shipped else str(shipped[0])
