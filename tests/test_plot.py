"The pictures of chapter 00b: the same bytes, small, readable, and told in words that are true."

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy
import pytest

from rnntext import plot
from rnntext.plot import (
    COLOURS,
    GREY,
    PAGES,
    Arrow,
    Diagram,
    Node,
    Picture,
    PictureTooLarge,
    bars,
    bezier_part,
    bezier_points,
    contrast,
    flow,
    heatmap,
    histogram,
    lines,
    luminance,
    number,
    panels,
    plain,
    recurrence,
    scatter,
    spread,
    thin,
)


def _numbers():
    return numpy.random.default_rng(0)


def _days(n):
    return numpy.datetime64("2012-01-01") + numpy.arange(n)


MAKERS = {
    "lines": lambda: lines(None, {"a": [1.0, 2.0, 0.5], "b": [0.0, 1.0, 1.0]}, title="$h_t$",
                           events={"start": 1}, levels={"base": 0.7},
                           bands={"a": ([0.5, 1, 0], [2, 3, 1])}),
    "dates": lambda: lines(_days(400), _numbers().random(400), ylabel="°C"),
    "log": lambda: lines([1, 10, 100], [1.0, 0.1, 0.01], log="xy", labels="legend"),
    "signed": lambda: heatmap(_numbers().standard_normal((8, 40)), limit=2),
    "unit": lambda: heatmap(_numbers().random((3, 4)), scale="unit", columns=list("abcd")),
    "sizes": lambda: heatmap([[0.0, 1e-3], [1.0, numpy.nan]], scale="log"),
    "bars": lambda: bars({"a": 1.5, "b": -0.5}, errors={"a": 0.2}, reference={"base": 1.0},
                         highlight="b"),
    "scatter": lambda: scatter({"a": (_numbers().random(30), _numbers().random(30))},
                               diagonal=True),
    "cloud": lambda: scatter((_numbers().random(5000), _numbers().random(5000))),
    "histogram": lambda: histogram({"a": _numbers().standard_normal(500), "b": [0.0, 1.0]}),
    "panels": lambda: panels([lines(None, [1.0, 2.0]), heatmap([[1.0, -1.0]])], columns=2),
    "flow": lambda: flow([["out"], ["a", "b"]], [("a", "out", "$W$"), ("b", "out")]),
    "recurrence": recurrence,
}


@pytest.fixture(scope="module")
def pictures():
    return {name: make() for name, make in MAKERS.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_same_numbers_give_the_same_bytes(name, pictures):
    first = pictures[name].svg()
    assert first == pictures[name].svg()
    with matplotlib.rc_context({"font.size": 21, "axes.facecolor": "black", "svg.hashsalt": "x"}):
        again = MAKERS[name]()
        assert again.svg() == first
        assert matplotlib.rcParams["font.size"] == 21
    assert again.alt == pictures[name].alt


@pytest.mark.parametrize("name", MAKERS)
def test_svg_is_small_transparent_and_complete(name, pictures):
    picture = pictures[name]
    bundle = picture._repr_mimebundle_()
    assert set(bundle) == {"image/svg+xml", "text/plain"}
    svg = bundle["image/svg+xml"]
    assert len(svg.encode()) <= 200_000
    root = ElementTree.fromstring(svg)
    assert root.find("{http://www.w3.org/2000/svg}desc").text == picture.alt
    assert bundle["text/plain"] == picture.alt and "\n" not in picture.alt
    assert not re.search(r"<text|<metadata|<!--|font-family|nan", svg)


@pytest.mark.parametrize("name", MAKERS)
def test_every_colour_but_those_of_heat_maps_has_contrast(name, pictures):
    marks = set(re.findall(r"stroke: ?(#[0-9a-f]{6})", pictures[name].svg()))
    marks |= {fill for fill, rest in
              re.findall(r"fill: ?(#[0-9a-f]{6})([^\"]*)", pictures[name].svg())
              if "opacity" not in rest}
    ends = {plot._SIGNED[0], plot._SIGNED[-1]}  # points of a colour bar are part of the map
    assert marks - ends <= {*COLOURS.values(), GREY}


def _luminance(code):
    "An independent reading of WCAG 2.2."
    total = 0.0
    for weight, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5)):
        c = int(code[i : i + 2], 16) / 255
        total += weight * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
    return total


@pytest.mark.parametrize("colour", [*COLOURS.values(), GREY])
@pytest.mark.parametrize("page", PAGES.values())
def test_colours_on_both_pages(colour, page):
    low, high = sorted((_luminance(colour), _luminance(page)))
    assert contrast(colour, page) == pytest.approx((high + 0.05) / (low + 0.05), rel=1e-12)
    assert contrast(colour, page) >= (4 if colour == GREY else 3)


def test_known_contrasts():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # just fails 4.5
    assert luminance("#ff0000") == pytest.approx(0.2126)
    with pytest.raises(ValueError, match="#rrggbb"):
        contrast("red", "#ffffff")


def test_labels_on_tinted_nodes_keep_their_contrast():
    def over(colour, page, alpha):
        mixed = [round(alpha * int(colour[i : i + 2], 16) + (1 - alpha) * int(page[i : i + 2], 16))
                 for i in (1, 3, 5)]
        return "#{:02x}{:02x}{:02x}".format(*mixed)
    for colour in [*COLOURS.values(), GREY]:
        for page in PAGES.values():
            assert contrast(GREY, over(colour, page, 0.1)) >= 3.4  # labels of nodes
            assert contrast(GREY, over(colour, page, 0.2)) >= 3.0  # whiskers on bars


def test_colour_maps_follow_the_values():
    at = numpy.linspace(0, 1, 101)
    def light(scale):
        return numpy.array([_luminance(matplotlib.colors.to_hex(c))
                            for c in plot.colour_map(scale)(at)])
    assert (numpy.diff(light("unit")) > 0).all()
    signed = light("signed")
    assert signed.argmax() == 50 and numpy.abs(signed - signed[::-1]).max() < 0.02
    blue, rust = (matplotlib.colors.to_rgb(c) for c in plot.colour_map("signed")([0.1, 0.9]))
    assert blue[2] > blue[0] and rust[0] > rust[2]


def test_sentences_name_the_plotted_numbers():
    alt = lines(_days(4), {"$h_{t-1}$": [3.0, 7.5, numpy.nan, 1.25]}, xlabel="day").alt
    assert ("Curve 'h_t-1' goes from 3 to 1.25, lowest 1.25 at 2012-01-04, "
            "highest 7.5 at 2012-01-02") in alt
    assert "missing values: 1" in alt
    a = numpy.zeros((3, 5))
    a[2, 4], a[0, 1] = -0.5, 0.25
    alt = heatmap(a).alt
    assert "Lowest -0.5 at row 2, column 4, highest 0.25 at row 0, column 1" in alt
    assert "from -0.5 to 0.5" in alt and "6.67 percent of the values are above 0" in alt
    alt = heatmap([[0.05, 0.95], [0.97, 0.5]], scale="unit").alt
    assert "25 percent are below 0.1, 50 percent above 0.9" in alt
    assert "GRU 1.5 plus or minus 0.1" in bars({"GRU": 1.5}, errors={"GRU": 0.1}).alt
    assert "3 points" in (alt := scatter(([1, 2, 3], [2, 4, 6])).alt) and "correlation 1.00" in alt
    assert "mean 2, standard deviation 0" in histogram([2.0, 2.0]).alt
    both = panels([lines(None, [1.0, 2.0], title="first"), bars({"x": 4})], alt="Mine.").alt
    assert both.startswith("Mine. 2 panels. (a) first: Line chart") and "(b) Bar chart" in both


@pytest.mark.parametrize("name", MAKERS)
def test_every_sentence_begins_with_a_capital(name, pictures):
    alt = re.sub(r"\([a-z]\) ", "", pictures[name].alt)  # the letters of panels
    starts = [alt[0], *re.findall(r"[^.]\. (\S)", alt)]
    assert not [c for c in starts if c.islower()], alt


def test_heatmap_draws_what_it_is_given():
    a = numpy.array([[1.0, -1.0, 0.0]])
    image = heatmap(a).figure.axes[0].images[0]
    assert numpy.array_equal(image.get_array(), a)
    assert image.norm.vmin == -1 and image.norm.vmax == 1
    image = heatmap([[0.2, 0.1]], scale="unit").figure.axes[0].images[0]
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)


def test_arrays_of_the_device_and_tensors_are_taken():
    array = type("ndarray", (), {"__module__": "cupy", "__init__": lambda s, a: vars(s).update(a=a),
                                 "get": lambda s: s.a})
    tensor = type("Tensor", (), {"__rnntext__": None,
                                 "__init__": lambda s, a: vars(s).update(data=a)})
    values = numpy.array([1.0, 3.0, 2.0], dtype="float32")
    for wrap in (array, tensor, lambda a: tensor(array(a))):
        assert lines(None, {"a": wrap(values)}).svg() == lines(None, {"a": values}).svg()
        assert heatmap(wrap(values[None])).alt == heatmap(values[None]).alt
        assert bars({"a": wrap(numpy.float32(2))}).alt == bars({"a": 2}).alt


BAD = [
    (lambda: lines([0, 1], {"a": [1.0, 2.0, 3.0]}), "'a' has 3 values, but x has 2"),
    (lambda: lines(None, {}), "series is empty"),
    (lambda: lines(None, {"a": []}), "filled array"),
    (lambda: lines(None, {"a": [numpy.nan]}), "no finite number"),
    (lambda: lines(None, {"a": ["x"]}), "real numbers"),
    (lambda: lines(None, {"a": [1j]}), "real numbers"),
    (lambda: lines(None, {"a": [0.0, 1.0]}, log="y"), "0 or below"),
    (lambda: lines(None, {"a": [1.0, 1.0]}, log="x"), "0 or below"),
    (lambda: lines(None, {"a": [0.0]}, log="z"), "log must be"),
    (lambda: lines(None, {"a": [0.0]}, labels="no"), "labels must be"),
    (lambda: lines(None, {"a": [0.0]}, bands={"b": ([0], [1])}), "belong to no series"),
    (lambda: lines(None, {str(i): [0.0, 1.0] for i in range(7)}), "at most 6 series"),
    (lambda: heatmap([1.0, 2.0]), "2 axes"),
    (lambda: heatmap([[-0.1]], scale="unit"), "signed"),
    (lambda: heatmap([[1.1]], scale="unit"), "from 0 to 1"),
    (lambda: heatmap([[-1.0]], scale="magnitude"), "0 or above"),
    (lambda: heatmap([[0.0]], scale="log"), "above 0"),
    (lambda: heatmap([[0.0]], scale="jet"), "scale must be"),
    (lambda: heatmap([[0.0]], limit=0), "limit must be"),
    (lambda: heatmap([[0.0, 1.0]], columns=["a"]), "2 columns, but 1 names"),
    (lambda: bars({}), "filled array"),
    (lambda: bars([1.0]), "dict"),
    (lambda: bars({"a": 1.0}, highlight="b"), "'b' is not a bar"),
    (lambda: scatter(([1.0], [1.0, 2.0])), "1 x but 2 y"),
    (lambda: histogram([1.0], bins=0), "bins must be"),
    (lambda: panels([]), "0 and 1"),
    (lambda: panels([recurrence()]), "cannot be drawn again"),
    (lambda: panels([lines(None, [1.0])], share="z"), "share must be"),
    (lambda: flow([["a"]], [("a", "b")]), "no node 'b'"),
    (lambda: Diagram().picture(), "no nodes"),
    (lambda: Node((0, 0), shape="star"), "shape must be"),
    (lambda: flow([[f"box {i}" for i in range(12)]], []), "inches wide"),
    (lambda: Picture(None, " "), "alt must say"),
    (lambda: lines(None, [1.0]).save("a.png"), ".svg"),
]


@pytest.mark.parametrize("index", range(len(BAD)))
def test_bad_input_is_refused_by_name(index):
    make, words = BAD[index]
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        make()


def test_too_large_a_picture_is_refused():
    with pytest.raises(PictureTooLarge, match="at most 200 kB"):
        heatmap(_numbers().standard_normal((500, 500))).svg()


def test_save(tmp_path, pictures):
    pictures["lines"].save(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == pictures["lines"].svg()


def test_spread_is_the_nearest_placing():
    "Against a brute-force search over a grid."
    wanted, gap = numpy.array([3.0, 0.0, 0.5]), 2.0
    grid = numpy.linspace(-2, 6, 81)
    best = min(((a - 3) ** 2 + b**2 + (c - 0.5) ** 2, (a, b, c)) for b in grid
               for c in grid[grid >= b + gap - 1e-9] for a in grid[grid >= c + gap - 1e-9])
    assert spread(wanted, gap) == pytest.approx(best[1], abs=0.06)
    assert spread([5.0, 1.0], 2.0).tolist() == [5.0, 1.0]


def test_thin_keeps_the_extremes_of_every_part():
    y = _numbers().standard_normal(50_000)
    y[12_345], y[77] = 99, numpy.nan
    x = numpy.arange(len(y))
    few_x, few_y = thin(x, y, columns=100)
    assert len(few_x) <= 400 and few_x[0] == 0 and few_x[-1] == len(y) - 1
    assert 99 in few_y and (numpy.diff(few_x) > 0).all()
    for part in numpy.array_split(x, 100):
        kept = few_y[(few_x >= part[0]) & (few_x <= part[-1])]
        assert numpy.nanmin(kept) == numpy.nanmin(y[part])
        assert numpy.nanmax(kept) == numpy.nanmax(y[part])


def test_direct_labels_do_not_overlap():
    picture = lines(None, {f"unit {i}": numpy.linspace(0, 0.01 * i, 30) for i in range(6)})
    picture.figure.draw_without_rendering()
    boxes = sorted((t.get_window_extent().extents for t in picture.figure.axes[0].texts),
                   key=lambda box: box[1])
    assert len(boxes) == 6
    assert all(upper[1] >= lower[3] - 1.5
               for lower, upper in zip(boxes, boxes[1:], strict=False))


def test_unnamed_curves_take_no_room_for_a_label():
    "Both curves end at the same height, but only one has a name to put there."
    axes = lines(None, {"": [0.0, 1.0], "named": [1.0, 1.0]}).figure.axes[0]
    (label,) = axes.texts
    assert label.get_text() == "named" and label.get_position() == (6, 0)
    axes = lines(None, {"": [0.0, 1.0], "named": [1.0, 1.0]}, labels="legend").figure.axes[0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["named"]


def test_a_level_outside_the_curves_is_inside_the_picture():
    low, high = lines(None, [1.0, 2.0], levels={"goal": 10.0}).figure.axes[0].get_ylim()
    assert low < 1 and high > 10
    axes = lines(None, {"a": [1, 8]}, levels={"goal": 9, "base": 1}, ylim=(0, 2)).figure.axes[0]
    assert axes.get_ylim() == (0, 2)  # the author's range goes before
    assert {t.get_text(): t.xy[1] for t in axes.texts} == {"a": 2, "base": 1}


TITLED = {
    "legend": lambda **kw: lines(None, {"a": [0.0, 1.0], "b": [1.0, 0.0]}, labels="legend", **kw),
    "events": lambda **kw: lines(None, numpy.arange(9.0), events={"begins": 0, "goes on": 1}, **kw),
    "both": lambda **kw: lines(None, {"a": [0.0, 1.0]}, labels="legend", events={"x": 0}, **kw),
    "scatter": lambda **kw: scatter({"a": _xy(9, 9), "b": _xy(9, 5)}, **kw),
    "histogram": lambda **kw: histogram({"a": [1.0, 2.0], "b": [2.0]}, **kw),
    "bars": lambda **kw: bars({"a": 1, "b": 2}, reference={"zero": 0.05}, **kw),
}


@pytest.mark.parametrize("size", ((7, 2.4), (4, 2), (7, 4)))
@pytest.mark.parametrize("paneled", (False, True))
@pytest.mark.parametrize("name", TITLED)
def test_titles_are_above_what_stands_above_the_axes(name, paneled, size):
    picture = TITLED[name](title="A title", size=size)
    if paneled:
        picture = panels([picture, TITLED[name](size=size)], columns=2, size=(2 * size[0], size[1]))
    picture.figure.draw_without_rendering()
    for axes in picture.figure.axes:
        title = axes._left_title
        others = [t.get_window_extent() for t in axes.texts]
        others += [axes.get_legend().get_window_extent()] if axes.get_legend() else []
        assert bool(title.get_text()) == (paneled or axes is picture.figure.axes[0])
        assert not any(title.get_window_extent().shrunk(0.98, 0.98).overlaps(o) for o in others)
        assert title.get_window_extent().y1 <= picture.figure.bbox.y1 + 1


def _xy(n, top):
    return numpy.linspace(1, n, 30), numpy.linspace(1, top, 30)


PAIRS = {
    "lines": lambda: [lines(*_xy(n, top)) for n, top in ((10, 9), (90, 900))],
    "log": lambda: [lines(*_xy(n, top), log="xy") for n, top in ((10, 9), (90, 900))],
    "labels": lambda: [lines(_xy(9, 9)[0], {"a": _xy(9, top)[1], "b": _xy(9, 2)[1]}, log="y",
                             events={"here": 2}, levels={"base": 0.1})
                       for top in (9, 900)],
    "bounded": lambda: [lines(*_xy(n, n), ylim=(0, n)) for n in (10, 90)],
    "dates": lambda: [lines(_days(n), numpy.arange(n)) for n in (5, 50)],
    "scatter": lambda: [scatter(_xy(n, n)) for n in (10, 90)],
    "bars": lambda: [bars({"a": 1, "b": n}) for n in (2, 20)],
    "histogram": lambda: [histogram(numpy.arange(n), bins=b) for n, b in ((10, 5), (90, 9))],
    "heatmap": lambda: [heatmap(numpy.ones((n, 2 * n))) for n in (2, 8)],
}


@pytest.mark.parametrize("columns", (1, 2))
@pytest.mark.parametrize("share", ("x", "y", "xy"))
@pytest.mark.parametrize("swap", (False, True))
@pytest.mark.parametrize("name", PAIRS)
def test_shared_axes_hold_every_panel(name, swap, share, columns):
    "What each panel shows when it stands alone is inside the range that all share."
    pair = PAIRS[name]()[:: -1 if swap else 1]
    alone = [picture.figure.axes[0] for picture in pair]
    together = panels(pair, columns=columns, share=share, size=(9, 6)).figure.axes[:2]
    for axis in "xy":
        ranges = [getattr(a, f"get_{axis}lim")() for a in together]
        for a, own in zip(together, alone, strict=True):
            need, has = getattr(own, f"get_{axis}lim")(), getattr(a, f"get_{axis}lim")()
            assert (need[0] > need[1]) == (has[0] > has[1])  # bars and rows run downwards
            air = 1e-9 * abs(has[1] - has[0])
            assert min(has) <= min(need) + air and max(has) >= max(need) - air
        if axis in share:
            assert ranges[0] == ranges[1]
            ends = numpy.sort([getattr(a, f"get_{axis}lim")() for a in alone])
            assert sorted(ranges[0]) == pytest.approx([ends[:, 0].min(), ends[:, 1].max()])


def test_a_logarithmic_axis_is_shared_with_its_like():
    pair = [lines(*_xy(9, 9), log=log) for log in ("y", "")]
    panels(pair, share="x")
    with pytest.raises(ValueError, match="all logarithmic or all linear"):
        panels(pair, share="y")


SHAPES = [Node((0, 0)), Node((0, 0), shape="circle"), Node((0, 0), shape="dot"),
          Node((0, 0), size=(2, 0.5))]


@pytest.mark.parametrize("start", SHAPES)
@pytest.mark.parametrize("angle", numpy.linspace(0, 2 * numpy.pi, 9)[:-1])
@pytest.mark.parametrize("bend", [0, 0.3, -0.4])
def test_arrows_run_from_edge_to_edge(start, angle, bend):
    end = Node((4 * numpy.cos(angle), 4 * numpy.sin(angle)), shape="circle")
    way = Arrow(start, end, bend=bend).way()[0]
    inner = bezier_points(way, numpy.linspace(0.002, 1, 400))
    assert not start.holds(inner).any()
    assert not end.holds(bezier_points(way, numpy.linspace(0, 0.998, 400))).any()
    assert numpy.linalg.norm(way[2] - end.at) == pytest.approx(0.43, abs=0.01)
    assert start.holds(way[:1])[0]


def test_bezier_part_is_the_same_curve():
    curve = numpy.array([[0.0, 0.0], [1.0, 3.0], [4.0, 1.0]])
    part = bezier_part(curve, 0.2, 0.7)
    t = numpy.linspace(0, 1, 11)
    assert bezier_points(part, t) == pytest.approx(bezier_points(curve, 0.2 + 0.5 * t))


@pytest.mark.parametrize("name", ["recurrence", "flow"])
def test_nothing_overlaps_in_diagrams(name, pictures):
    figure = pictures[name].figure
    axes = figure.axes[0]
    words = [t.get_window_extent() for t in axes.texts]
    for i, a in enumerate(words):
        assert not any(a.overlaps(b) for b in words[i + 1 :])
        assert figure.bbox.contains(a.x0, a.y0) and figure.bbox.contains(a.x1, a.y1)
    boxes = [p.get_window_extent() for p in axes.patches if type(p).__name__ != "FancyArrowPatch"]
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[i + 1 :])


def test_arrow_to_itself_and_frames():
    diagram = Diagram()
    diagram.node("a", (0, 0))
    with pytest.raises(ValueError, match="needs corners"):
        diagram.arrow("a", "a")
    diagram.arrow("a", "a", "$R$", via=[(1.2, 0), (1.2, 1), (0, 1)])
    diagram.frame(["a"], "encoder")
    alt = diagram.picture().alt
    assert "a to a (R)" in alt and "A frame around a: encoder." in alt
    with pytest.raises(ValueError, match="already has a node"):
        diagram.node("a", (1, 1))


def test_words():
    assert plain(r"$\mathrm{loss}_{t-1}$") == "loss_t-1"
    assert [number(v) for v in (0.12345, 12345, -0.0, 1e-9)] == ["0.123", "12,345", "0", "1e-09"]


def test_import_does_not_load_matplotlib():
    code = "import sys, rnntext.plot; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
