"""Small files that many write and none finds half written."""

from concurrent.futures import ThreadPoolExecutor

from trainables.atomic_files import write_atomically

WRITERS, TIMES = 4, 50


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_writers_of_one_process_id_do_not_meet_in_one_temporary_file(tmp_path):
    # As those of two containers that share a folder.
    path = tmp_path / "000000007.json"
    wholes = [bytes([65 + number]) * 10_000 for number in range(WRITERS)]
    path.write_bytes(wholes[0])

    def write(whole):
        for _ in range(TIMES):
            write_atomically(path, whole)
            assert path.read_bytes() in wholes

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, wholes))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
