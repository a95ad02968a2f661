"""How much memory is free."""

from __future__ import annotations

from foster.memory import free_memory


def test_free_memory_is_what_the_container_grants(tmp_path):
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    machine = free_memory(tmp_path)
    assert machine > 10_000
    write("proc/self/cgroup", "0::/job/step\n")
    write("sys/fs/cgroup/job/memory.max", "9000\n")
    write("sys/fs/cgroup/job/memory.current", "5000\n")
    write("sys/fs/cgroup/job/memory.stat", "anon 4000\ninactive_file 1000\n")
    write("sys/fs/cgroup/job/step/memory.max", "max\n")
    write("sys/fs/cgroup/job/step/memory.current", "5000\n")
    write("sys/fs/cgroup/job/step/memory.stat", "inactive_file 0\n")
    assert free_memory(tmp_path) == 5000
    write("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n0::/\n")
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "6500\n")
    write("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 200\n")
    assert free_memory(tmp_path) == 700
