"""The picture of a report's page for the README, by Debian's chromium through playwright.

python benchmarks/picture.py abscise-demo/report.html docs/report.png
"""

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDTH = 1180
MARGIN = 40


def main() -> int:
    """Draw the page from its top down to the end of one section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--until", default="evidence", help="id of the last section in the picture")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("no chromium: apt-get install chromium", file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 800}, color_scheme=options.scheme
        )
        _ = page.goto(options.page.resolve().as_uri())
        box = page.locator(f"#{options.until}").bounding_box()
        if box is None:
            print(f"{options.page} has no section #{options.until}", file=sys.stderr)
            return 1
        height = box["y"] + box["height"] + MARGIN
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height}
        _ = page.screenshot(path=options.out, full_page=True, clip=clip)  # type: ignore[arg-type]
        browser.close()
    print(f"{options.out}: {WIDTH} x {height:.0f}, {options.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
