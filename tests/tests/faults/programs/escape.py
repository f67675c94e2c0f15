#!/usr/bin/python3
# Tries to leave its instance in many ways; a line each: what was tried, and `refused` or `SUCCEEDED`.
import ctypes
import os
import socket
import subprocess
import sys

CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID = 0x00020000, 0x40000000, 0x20000000
AF_PACKET_ALL = 0x0300
libc = ctypes.CDLL(None, use_errno=True)


def check(outcome):
    if outcome != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def run(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise OSError(" ".join(done.stdout.split()))


def enter(kind):
    check(libc.setns(os.open(f"/proc/1/ns/{kind}", os.O_RDONLY), 0))


def write(path, text="1"):
    with open(path, "w") as file:
        file.write(text)


def call(path, kind):
    socket.socket(socket.AF_UNIX, kind).connect(path)


def as_root_of_a_user_namespace(script):
    run("unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", script)


attempts = {
    "enter the network namespace of process 1": lambda: enter("net"),
    "enter the mount namespace of process 1": lambda: enter("mnt"),
    "enter the process namespace of process 1": lambda: enter("pid"),
    "nsenter to process 1": lambda: run("nsenter", "--target", "1", "--all", "true"),
    "a new mount namespace": lambda: check(libc.unshare(CLONE_NEWNS)),
    "a new network namespace": lambda: check(libc.unshare(CLONE_NEWNET)),
    "a new process namespace": lambda: check(libc.unshare(CLONE_NEWPID)),
    "mount": lambda: run("mount", "-t", "tmpfs", "none", "/tmp"),
    "make the root writable": lambda: run("mount", "-o", "remount,rw", "/"),
    "make the root writable as root of a user namespace":
        lambda: as_root_of_a_user_namespace("mount -o remount,bind,rw / && touch /etc/margay-was-here"),
    "uncover the host's /run as root of a user namespace": lambda: as_root_of_a_user_namespace("umount /run"),
    "list the root of process 1": lambda: os.listdir("/proc/1/root/"),
    "read the environment of process 1": lambda: open("/proc/1/environ").read(),
    "become root": lambda: os.setuid(0),
    "change the root": lambda: os.chroot("/tmp"),
    "make a device": lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(254, 0)),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, AF_PACKET_ALL),
    "take an address": lambda: run("ip", "address", "add", "100.64.9.9/32", "dev", "lo"),
    "write to /etc": lambda: write("/etc/margay-was-here"),
    "set the host's name": lambda: write("/proc/sys/kernel/hostname"),
    "call a helper of the kernel": lambda: write("/proc/sys/kernel/core_pattern", "|/tmp/x"),
    "reach the control socket": lambda: call(sys.argv[1] + "/control.sock", socket.SOCK_STREAM),
    "reach the keeper": lambda: call(sys.argv[1] + "/keeper.sock", socket.SOCK_SEQPACKET),
    "list the state of all instances": lambda: os.listdir(sys.argv[2]),
    "list pinned maps": lambda: os.listdir(sys.argv[1] + "/bpf"),
}
for what, attempt in attempts.items():
    try:
        attempt()
        print(f"SUCCEEDED: {what}")
    except OSError as error:
        print(f"refused: {what}: {error}")
