"""The grammar of `--input`: what each text is, and what is refused with which words."""

from __future__ import annotations

import pytest

from roofline.errors import UsageError
from roofline.request import Ask
from roofline.sources.grammar import read
from roofline.sources.inputs import default_image, rows
from roofline.sources.values import Array, Group, Input, Plain, Stored, Table


def shape(*sizes: int) -> Input:
    return Input("", sizes)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("1,3,224,224", Input("0", (1, 3, 224, 224))),
        ("x=1x3x4", Input("x", (1, 3, 4))),
        ("0,3", Input("0", (0, 3))),
        ("5", Input("0", (5,))),
        ("x=5,", Input("x", (5,))),
        ("x=", Input("x", ())),
        ("ids=1,128:int64", Input("ids", (1, 128), "int64")),
        ("ids=1,128:int64:0..32000", Input("ids", (1, 128), "int64", between=(0, 32000))),
        ("x=4:-1..0.5", Input("x", (4,), between=(-1, 0.5))),
        ("t=5", Input("t", (), value=Plain(5))),
        ("t=-5", Input("t", (), value=Plain(-5))),
        ("s=5e-1", Input("s", (), value=Plain(0.5))),
        ("f=True", Input("f", (), value=Plain(True))),
        ("n=none", Input("n", (), value=Plain(None))),
        ("mode='a;b'", Input("mode", (), value=Plain("a;b"))),
        ("l=[5,3,2]", Input("l", (), value=Array((5, 3, 2), "int64"))),
        ("l=[[0, 1], [1, 2.5]]", Input("l", (), value=Array(((0, 1), (1, 2.5)), "float32"))),
        ("l=[0,1]:int32", Input("l", (), value=Array((0, 1), "int32"))),
        ("m=[true,false]", Input("m", (), value=Array((True, False), "bool"))),
        ("x=[3,20,30; 3,24,16]", Input("x", (), value=Group((shape(3, 20, 30), shape(3, 24, 16))))),
        ("x=[3,20,30;]", Input("x", (), value=Group((shape(3, 20, 30),)))),
        ("h=(1,8; 1,8)", Input("h", (), value=Group((shape(1, 8), shape(1, 8)), "tuple"))),
        ("s=(5, 3)", Input("s", (), value=Group((Input("", (), value=Plain(5)), Input("", (), value=Plain(3))), "tuple"))),
        ("x=[]", Input("x", (), value=Group(()))),
        (
            "b={a=1,2; c={d=5}}",
            Input("b", (), value=Table((Input("a", (1, 2)), Input("c", (), value=Table((Input("d", (), value=Plain(5)),)))))),
        ),
        ("x=@a.npz", Input("x", (), value=Stored("a.npz"))),
        ("x=@a.b/c.pt:k:1", Input("x", (), value=Stored("a.b/c.pt", "k:1"))),
    ],
)
def test_a_text_means(text: str, means: Input) -> None:
    assert read(text) == means


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x=[1,2", "brackets do not close"),
        ("a-b=3", "is not a shape; write"),
        ("mode=bilinear", """is not a shape; a text is in quotes, within the shell's: 'mode="bilinear"'; write 1,3,"""),
        ("x=1,,2", "is not a shape"),
        ("x=1,-3", "is not a shape"),
        ("x=1:int63", "unknown dtype 'int63'; did you mean int64?"),
        ("x=3:int64:5..5", "from its lowest value up to its highest"),
        ("x=3:int64:0..1.5", "range of integers"),
        ("x=[[1],[1,2]]", "rows differ in length"),
        ("x={a}", "a dict is written"),
        ("x={a=1;a=2}", "stands there twice"),
        ("x=@a.txt", ".npz, .npy, .pt and .pth"),
        ("x=99999999999999999999,3", "too large"),
        ("x=[9999999999999999999999]", "beyond 64 bits"),
        ("x=[__import__('os')]", "between its brackets stand numbers"),
        ("x=" + "[" * 30 + ";]" * 30, "brackets within each other"),
        ("x=" + "9" * 6000, "beyond every type"),
        ("x=[" + "1," * 200_000 + "]", "better in a file"),
    ],
)
def test_a_text_that_means_nothing(text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(text)
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 2
    assert len(str(refused.value)) < 600


def test_batch_and_resolution_reach_what_is_said_by_shape() -> None:
    texts = ("b={image=1,3,8,8; scale=2; n=[1,2]}", "maps=[1,4,16,16; 1,8,8,8]", "photos=[3,9,9; 3,7,5]")
    b, maps, photos = default_image(Ask("", inputs=texts, batch=4, resolution=32))
    assert isinstance(b.value, Table)
    assert isinstance(maps.value, Group)
    assert isinstance(photos.value, Group)
    assert [i.shape for i in b.value.items] == [(4, 3, 32, 32), (), ()]
    assert [i.shape for i in maps.value.items] == [(4, 4, 32, 32), (4, 8, 32, 32)]
    assert [i.shape for i in photos.value.items] == [(3, 32, 32), (3, 32, 32)]
    assert (rows((b,)), rows((maps,)), rows((photos,))) == (4, 4, 2)
    with pytest.raises(UsageError, match="--batch is the first size"):
        default_image(Ask("", inputs=("t=5",), batch=4))


def test_the_note_on_an_assumed_image_has_the_size_that_was_asked_for() -> None:
    from roofline.request import Ask
    from roofline.sources.inputs import ASSUMED, assumed, default_image

    assert assumed(default_image(Ask("m"))) == ASSUMED
    assert "8,3,64,64 assumed" in assumed(default_image(Ask("m", batch=8, resolution=64)))
