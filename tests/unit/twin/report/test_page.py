"""The page: complete in itself, the same figures as tables, and honest about what it is."""

from html.parser import HTMLParser

from penstock.twin.report.comparison import Terms, compare
from penstock.twin.report.page import page
from tests.support.studies import place_result, queue_result

TERMS = Terms([2_500_000], (60, 400))


class Reader(HTMLParser):
    """Keeps the tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def queue_page() -> str:
    a, b = queue_result("easy", 70.0, 1.25), queue_result("pen<stock>", 72.5, 0.2)
    return page(compare([a], [b], TERMS))


def test_everything_is_on_the_page_and_nothing_comes_from_elsewhere() -> None:
    html = queue_page()
    reader = Reader(html)
    assert reader.open == []
    names = [tag for tag, _ in reader.tags]
    assert names.count("svg") == 5, "the hatch and four charts"
    assert not {"script", "link", "img", "iframe"} & set(names)
    assert not any(key in attributes for _, attributes in reader.tags for key in ("src", "href"))
    assert "@import" not in html
    headings = [
        word for word in reader.words if word in {"Waits by size", "Energy", "Euro a year", "Fragmentation"}
    ]
    assert len(headings) == 4
    said = " ".join(reader.words)
    assert "2.50 points more utilisation under pen<stock>: 54,750 EUR a year at 2.50 EUR/GPU-h." in said
    assert "A simulated study" in said
    assert "nothing was measured on hardware" in said


def test_each_chart_has_its_numbers_as_a_table() -> None:
    html = queue_page()
    reader = Reader(html)
    assert [tag for tag, _ in reader.tags].count("details") == 2
    for figure in ("72.5", "1.25", "0.4", "7.5"):
        assert f">{figure}</td>" in html
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in reader.tags if tag == "th")


def test_light_and_dark() -> None:
    assert "prefers-color-scheme:dark" in queue_page()


def test_a_placement_study_without_prices_or_watts() -> None:
    html = page(
        compare([place_result("fgd", 1, 95.0)], [place_result("ours", 1, 94.5)], Terms([], None, 100))
    )
    assert Reader(html).open == []
    assert "0.50 points less utilisation under ours." in html
    assert "No price was given." in html
    assert "<h2>Energy</h2>" not in html
    assert "Waits by size" not in html
    same = page(
        compare([place_result("fgd", 1, 95.0)], [place_result("ours", 1, 95.0)], Terms([], None, 100))
    )
    assert "Both use the GPUs equally." in same
