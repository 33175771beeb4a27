"""The README's picture: the first screen of a real report, in Debian's Chromium.

python benchmarks/report_picture.py demo-report.html docs/images/report.png
"""

import sys
from pathlib import Path

from selenium import webdriver

WIDTH, HEIGHT = 1180, 1000


def main(report: Path, picture: Path) -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path="/usr/bin/chromedriver")
    with webdriver.Chrome(options=options, service=service) as browser:
        browser.set_window_size(WIDTH, HEIGHT)
        browser.get(report.resolve().as_uri())
        picture.parent.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(picture))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
