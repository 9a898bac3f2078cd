"""Fill in the address of the repository for a package index, before a release is built.

A package index shows the README outside the repository, so that relative links and images lead
nowhere. The release workflow runs this script in its checkout, with the address from its own
variables; the changed files are built, and not committed.
"""

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
#: What precedes the address of a link or an image, in Markdown and in HTML; and the address.
ADDRESS = re.compile(r"""(\]\(|<(?:a|img|source)\b[^>]*?\s(?:href|src|srcset)=")([^)"\s]+)""")
IMAGES = (".png", ".svg", ".gif", ".jpg", ".webp")
#: Blocks and spans of code, which stay as they are.
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.M | re.S)
#: The line of pyproject.toml that the addresses follow.
URLS = "[project.urls]\n"


def absolute_links(text: str, repository: str, tag: str) -> str:
    """Return the README with absolute addresses of files and images.

    Parameters
    ----------
    text : str
        Markdown.
    repository, tag : str
        The address of the repository, without a slash at its end, and the release in it.
    """

    def absolute(match: re.Match[str]) -> str:
        before, target = match.groups()
        if re.match(r"[a-z]+:|//", target):
            return match[0]
        path = f"README.md{target}" if target.startswith("#") else target.removeprefix("./")
        return f"{before}{repository}/{'raw' if path.endswith(IMAGES) else 'blob'}/{tag}/{path}"

    parts = [ADDRESS.sub(absolute, part) for part in CODE.split(text)]
    code = [*CODE.findall(text), ""]
    return "".join(part + kept for part, kept in zip(parts, code, strict=True))


def with_urls(pyproject: str, repository: str, tag: str) -> str:
    """Return pyproject.toml with the addresses that a release has."""
    urls = {
        "Repository": repository,
        "Documentation": f"{repository}/tree/{tag}/docs",
        "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
    if pyproject.count(URLS) != 1:
        raise ValueError("pyproject.toml: exactly one [project.urls] is needed")
    lines = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    return pyproject.replace(URLS, URLS + lines)


def release(environment: Mapping[str, str], version: str) -> tuple[str, str]:
    """Return the address of the repository and the tag, which has to be that of the version."""
    repository = f"{environment['GITHUB_SERVER_URL']}/{quote(environment['GITHUB_REPOSITORY'])}"
    tag = environment["GITHUB_REF_NAME"]
    if tag != f"v{version}":
        raise ValueError(f"tag {tag}: the version in pyproject.toml is {version}: tag v{version}")
    return repository, tag


def main() -> None:
    """Change README.md and pyproject.toml in this checkout."""
    readme, pyproject = ROOT / "README.md", ROOT / "pyproject.toml"
    metadata = pyproject.read_text(encoding="utf-8")
    try:
        repository, tag = release(os.environ, tomllib.loads(metadata)["project"]["version"])
        metadata = with_urls(metadata, repository, tag)
    except (KeyError, ValueError) as error:
        sys.exit(f"prepare_release: error: {error}")
    pyproject.write_text(metadata, encoding="utf-8")
    text = readme.read_text(encoding="utf-8")
    readme.write_text(absolute_links(text, repository, tag), encoding="utf-8")


if __name__ == "__main__":
    main()
