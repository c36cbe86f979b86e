"""Nothing is downloaded for a model by name, whatever its code asks for; and the error says who was asked."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

import roofline
from roofline.errors import RooflineError
from roofline.isolation import network

MODEL = """
import socket, threading, urllib.request
import torch
from torch import nn

def page():
    return urllib.request.urlopen("http://example.invalid/weights.pt")

def url():
    page()
    return nn.Linear(3, 3)

def weights():
    return torch.hub.load_state_dict_from_url("https://example.invalid/weights.pth", model_dir="FOLDER")

def hub():
    from huggingface_hub import hf_hub_download
    return hf_hub_download("nobody/example.invalid", "config.json", cache_dir="FOLDER")

def address():
    socket.create_connection(("192.0.2.1", 80), timeout=5)

def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("192.0.2.1", 53))

def thread():
    found = []
    def go():
        try:
            page()
        except Exception as error:
            found.append(error)
    t = threading.Thread(target=go)
    t.start()
    t.join()
    raise found[0]

class Late(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(3, 3)

    def forward(self, x):
        page()
        return self.l(x)

def without():
    try:
        page()
    except OSError:
        pass
    return nn.Linear(3, 3)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(MODEL.replace("FOLDER", str(tmp_path / "kept")), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("url", "example.invalid"),
        ("weights", "example.invalid"),
        ("hub", "huggingface.co"),
        ("address", "192.0.2.1"),
        ("datagram", "192.0.2.1"),
        ("thread", "example.invalid"),
        ("Late", "example.invalid"),
    ],
)
def test_what_asks_for_the_network_is_refused_with_the_name(file: Path, name: str, host: str) -> None:
    if name == "hub":
        pytest.importorskip("huggingface_hub")
    with pytest.raises(RooflineError) as caught:
        roofline.analyze(f"{file}:{name}", inputs=["1,3"], device="t4", cache=False)
    told = str(caught.value).splitlines()
    assert len(told) == 2
    assert told[1].startswith(f"its code asked for the network ({host}), and nothing is downloaded")


def test_code_that_can_do_without_goes_on_and_a_note_says_so(file: Path) -> None:
    found = roofline.analyze(f"{file}:without", inputs=["1,3"], device="t4", cache=False)
    assert found.totals.macs == 9
    assert any("asked for the network (example.invalid)" in note for note in found.notes)


def test_threads_of_the_caller_keep_the_network_and_so_does_the_caller_afterwards() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()
        inside, outside, errors = threading.Event(), threading.Event(), list[BaseException]()

        def of_the_caller() -> None:
            inside.wait(10)
            try:
                socket.create_connection(place, timeout=10).close()
            except OSError as error:
                errors.append(error)
            outside.set()

        threading.Thread(target=of_the_caller, daemon=True).start()
        with network.closed():
            inside.set()
            assert outside.wait(10)
            with pytest.raises(network.Offline, match="network is closed"):
                socket.create_connection(place, timeout=10)
            assert network.asked() == "127.0.0.1"
        assert errors == []
        socket.create_connection(place, timeout=10).close()
        assert network.asked() == ""


def test_a_socket_of_this_machine_that_has_a_path_stays_open(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        with network.closed():
            client.connect(str(tmp_path / "s"))
