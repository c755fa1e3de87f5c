#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs one pod in a container runtime, as a kubelet does, for the tests of names: CRI by gRPC, with
messages by hand. Needs grpcio.

    pod.py image PROGRAM TAR    makes an image `pause:1` around a static program
    pod.py start SOCKET         runs the pod shop/cart-0; prints its id
    pod.py stop SOCKET ID       stops and removes it
"""
import hashlib
import io
import json
import sys
import tarfile

UID = "8f0d2c3e-6a1b-4c5d-9e7f-0123456789ab"


def image(program: str, to: str) -> None:
    def packed(files: dict[str, bytes]) -> bytes:
        bytes_ = io.BytesIO()
        with tarfile.open(fileobj=bytes_, mode="w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(data), 0o755
                tar.addfile(info, io.BytesIO(data))
        return bytes_.getvalue()

    with open(program, "rb") as file:
        layer = packed({"pause": file.read()})
    layers = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}
    config = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/pause"]}, "rootfs": layers}
    manifest = [{"Config": "config.json", "RepoTags": ["pause:1"], "Layers": ["layer.tar"]}]
    files = {"layer.tar": layer, "config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    with open(to, "wb") as file:
        file.write(packed(files))


def field(tag: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    length, rest = b"", len(data)
    while True:
        length += bytes([rest & 127 | (128 if rest > 127 else 0)])
        rest >>= 7
        if not rest:
            return bytes([tag << 3 | 2]) + length + data


def call(socket: str, method: str, message: bytes) -> bytes:
    import grpc

    with grpc.insecure_channel(f"unix://{socket}") as channel:
        ask = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        return ask(message, timeout=120, wait_for_ready=True)


def start(socket: str) -> None:
    metadata = field(1, "cart-0") + field(2, UID) + field(3, "shop")
    logs = f"/var/log/pods/shop_cart-0_{UID}"
    config = field(1, metadata) + field(2, "cart-0") + field(3, logs) + field(8, field(1, f"/kubepods/pod{UID}"))
    print(call(socket, "RunPodSandbox", field(1, config))[2:].decode())


def stop(socket: str, pod: str) -> None:
    call(socket, "StopPodSandbox", field(1, pod))
    call(socket, "RemovePodSandbox", field(1, pod))


if __name__ == "__main__":
    {"image": image, "start": start, "stop": stop}[sys.argv[1]](*sys.argv[2:])
