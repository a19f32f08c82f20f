import csv
import io
import json
import sys
import tarfile

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from zoo.cli.data import main
from zoo.clip.configs import VARIANTS
from zoo.clip.data import ClipDataModule, prepare_images, square
from zoo.shared.data.images import BadSample, open_image
from zoo.shared.data.pairs import PairSource, check_pairs, split_by_concept
from zoo.shared.data.sources import open_source
from zoo.shared.data.tars import tar_index
from zoo.shared.errors import UserError

CONFIG = VARIANTS["clip-debug"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def picture(number, size=(40, 30)):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def encoded(number, kind="PNG"):
    out = io.BytesIO()
    picture(number).save(out, kind)
    return out.getvalue()


def write_pictures(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(i).save(folder / f"{i}.png")
    return [f"{folder.name}/{i}.png" for i in range(count)]


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, delimiter=delimiter).writerows(rows)
    return path


def check_three(source):
    """Three pairs: picture i with caption "thing i"."""
    assert isinstance(source, PairSource)
    assert len(source) == 3
    for i in range(3):
        np.testing.assert_array_equal(np.asarray(source.image(i)), np.asarray(picture(i)))
        assert source.title(i) == source.captions(i)[0] == f"thing {i}"
        assert source.label(i) is None
    assert len({source.concept(i) for i in range(3)}) == 3


# ---- tables


def test_delimited_tables(tmp_path):
    names = write_pictures(tmp_path / "images", 3)
    rows = [[f"thing {i}", name, "x"] for i, name in enumerate(names)]
    check_three(open_source(str(write_csv(tmp_path / "a.csv", [["caption", "filepath", "other"], *rows]))))
    check_three(open_source(str(write_csv(tmp_path / "a.tsv", [["Text", "Image", "x"], *rows], delimiter="\t"))))
    odd = str(write_csv(tmp_path / "b.csv", [["what", "where", "x"], *rows]))
    check_three(open_source(odd, image_column="where", caption_column="what"))
    with pytest.raises(UserError, match=r"it has what, where, x.*--data\.caption_column"):
        open_source(odd)
    with pytest.raises(UserError, match="no column 'nope'"):
        open_source(odd, caption_column="nope")


def test_jsonl_with_several_captions(tmp_path):
    names = write_pictures(tmp_path / "images", 3)
    lines = [json.dumps({"image": n, "captions": [f"thing {i}", "another"]}) for i, n in enumerate(names)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    source = open_source(str(path))
    check_three(source)
    assert source.captions(1) == ["thing 1", "another"]
    path.write_text("{oops\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot read"):
        open_source(str(path))


def test_parquet_with_paths_and_with_bytes(tmp_path):
    names = write_pictures(tmp_path / "images", 3)
    captions = [f"thing {i}" for i in range(3)]
    parquet.write_table(pyarrow.table({"image_path": names, "text": captions}), tmp_path / "a.parquet")
    check_three(open_source(str(tmp_path / "a.parquet")))
    cells = [{"bytes": encoded(i), "path": None} for i in range(3)]
    parquet.write_table(pyarrow.table({"image": cells, "caption": captions}), tmp_path / "b.parquet")
    source = open_source(str(tmp_path / "b.parquet"))
    check_three(source)
    assert source.id(2) == "b.parquet row 3"


def test_parquet_without_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'paper-zoo\[data\]'"):
        open_source(str(tmp_path / "a.parquet"))


def test_img2dataset_files_and_table(tmp_path):
    write_pictures(tmp_path / "00000", 0)
    rows = {"url": [], "caption": [], "key": [], "status": []}
    for i in range(4):
        good, key = i != 3, f"0000{i}"
        if good:
            (tmp_path / "00000" / f"{key}.jpg").write_bytes(encoded(i))  # PNG bytes: no loss to compare
            (tmp_path / "00000" / f"{key}.txt").write_text(f"thing {i}", encoding="utf-8")
            (tmp_path / "00000" / f"{key}.json").write_text("{}", encoding="utf-8")
        for name, cell in zip(rows, ("u", f"thing {i}", key, "success" if good else "failed"), strict=True):
            rows[name].append(cell)
    parquet.write_table(pyarrow.table(rows), tmp_path / "00000.parquet")
    table = open_source(str(tmp_path / "00000.parquet"))
    check_three(table)
    assert table.left_out == 1
    folder = open_source(str(tmp_path))
    check_three(folder)
    assert folder.classes == ()


def test_rows_with_one_image_stay_on_one_side(tmp_path):
    names = write_pictures(tmp_path / "images", 10)
    rows = [[name, f"text {n}"] for name in names for n in range(5)]
    source = open_source(str(write_csv(tmp_path / "a.csv", [["image", "caption"], *rows])))
    train, held_out = split_by_concept(source, held_out=0.3, seed=0)
    assert len(held_out) == 15
    assert not {source.id(i) for i in train} & {source.id(i) for i in held_out}


# ---- folders


def test_folder_classes_and_side_cars(tmp_path):
    write_pictures(tmp_path / "data" / "red_fox", 2)
    write_pictures(tmp_path / "data" / "owl", 1)
    write_pictures(tmp_path / "data" / ".hidden", 1)
    source = open_source(str(tmp_path / "data"))
    assert source.classes == ("owl", "red fox")
    assert [source.id(i) for i in range(len(source))] == ["owl/0.png", "red_fox/0.png", "red_fox/1.png"]
    assert [source.label(i) for i in range(3)] == [0, 1, 1]
    assert "red fox" in source.captions(1)
    (tmp_path / "data" / "owl" / "0.txt").write_text("a snowy owl\nan owl at night\n", encoding="utf-8")
    assert source.captions(0) == ["a snowy owl", "an owl at night"]
    assert source.label(0) == 0


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        open_source(str(tmp_path))
    write_pictures(tmp_path, 1)
    with pytest.raises(UserError, match="has no captions"):
        open_source(str(tmp_path))
    with pytest.raises(UserError, match="there is no data at"):
        open_source(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"x\.tar 2>/dev/null cannot be read"):
        open_source("pipe:cat x.tar 2>/dev/null")
    with pytest.raises(UserError, match="no tar file"):
        open_source("s3://bucket/x.tar")
    (tmp_path / "x.xyz").touch()
    with pytest.raises(UserError, match="no table"):
        open_source(str(tmp_path / "x.xyz"))


# ---- tars


def write_tar(path, members):
    with tarfile.open(path, "w") as out:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))


def test_tars_by_range_pattern_and_folder(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    write_tar(folder / "000.tar", [("a/0.png", encoded(0)), ("a/0.txt", b"thing 0"), ("a/0.json", b"{}")])
    write_tar(
        folder / "001.tar",
        [("1.json", b'{"caption": "thing 1"}'), ("1.png", encoded(1)), ("2.txt", b"thing 2"), ("2.png", encoded(2))],
    )
    for pattern in ("{000..001}.tar", "*.tar", ""):
        check_three(open_source(str(folder / pattern)))
    assert open_source(str(folder)).id(0) == "000.tar/a/0"
    with pytest.raises(UserError, match=r"there is no tar file .*002\.tar"):
        open_source(str(folder / "{000..002}.tar"))


def test_a_tar_is_indexed_once_and_again_when_it_changes(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, [("0.png", encoded(0)), ("0.txt", b"thing 0")])
    lines = []
    first = tar_index(path, progress=lines.append)
    assert tar_index(path, progress=lines.append) == first
    assert len(lines) == 1
    write_tar(path, [("5.png", encoded(1)), ("5.txt", b"thing 1"), ("6.png", encoded(1)), ("6.txt", b"thing")])
    assert [key for key, _ in tar_index(path, progress=lines.append)[0]] == ["5", "6"]
    assert len(lines) == 2


def test_tar_classes_and_bad_members(tmp_path):
    (tmp_path / "classnames.txt").write_text("cat\ndog\n", encoding="utf-8")
    write_tar(
        tmp_path / "a.tar",
        [("0.png", encoded(0)), ("0.cls", b"1"), ("1.png", b"no image"), ("1.txt", b"x"), ("2.png", encoded(2))],
    )
    source = open_source(str(tmp_path / "a.tar"))
    assert source.classes == ("cat", "dog")
    assert source.captions(0) == ["dog"]
    with pytest.raises(BadSample, match="not an image"):
        source.image(1)
    with pytest.raises(BadSample, match="has no caption"):
        source.captions(2)


def test_a_file_that_is_no_tar_is_refused(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"\x01garbage" * 200)
    with pytest.raises(UserError, match="no plain tar or is damaged"):
        open_source(str(path))


def write_pairs(path, count):
    """Pictures with the caption "t", each before its text."""
    write_tar(path, [member for i in range(count) for member in ((f"{i}.png", encoded(i)), (f"{i}.txt", b"t"))])


@pytest.mark.parametrize("where", ["in a picture", "in a text", "in a header", "between two samples", "garbage"])
def test_a_tar_that_breaks_off_is_used_as_far_as_it_goes(tmp_path, where):
    path = tmp_path / "a.tar"
    write_pairs(path, 4)
    whole = path.read_bytes()
    members = dict(tar_index(path)[0])
    picture_of_2, text_of_2, picture_of_3 = members["2"]["png"][0], members["2"]["txt"][0], members["3"]["png"][0]
    cut, named = {
        "in a picture": (picture_of_2 + 100, "2"),
        "in a text": (text_of_2, "2"),
        "in a header": (picture_of_3 - 100, "2 and after"),
        "between two samples": (picture_of_3 - 512, "2 and after"),
        "garbage": (picture_of_3 - 512, "2 and after"),
    }[where]
    path.write_bytes(whole[:cut] + (b"\x01" * 4096 if where == "garbage" else b""))
    lines = []
    for _ in range(2):  # indexed, and from the index
        source = open_source(str(path), progress=lines.append)
        good = 3 if "after" in named else 2
        assert [source.id(i) for i in range(len(source))] == [*(f"a.tar/{i}" for i in range(good)), f"a.tar/{named}"]
        for i in range(good):
            np.testing.assert_array_equal(np.asarray(source.image(i)), np.asarray(picture(i)))
            assert source.captions(i) == ["t"]
        for read in (source.image, source.captions):
            with pytest.raises(BadSample, match="breaks off here"):
                read(good)
        assert source.label(good) is None
    assert len(lines) == 2
    assert "breaks off at" in lines[1]


def test_a_broken_tail_is_counted_and_too_many_of_them_stop(tmp_path):
    path = tmp_path / "a.tar"
    write_pairs(path, 9)
    offset, _ = dict(tar_index(path)[0])["8"]["png"]
    path.write_bytes(path.read_bytes()[: offset + 100])
    module = ClipDataModule(config=CONFIG, source=str(path), batch_size=3, held_out=0.0)
    assert sum(len(batch["index"]) for batch in module.train_dataloader()) == 9
    assert module.bad == {"a.tar/8": "the tar breaks off here; fetch it again"}
    strict = ClipDataModule(config=CONFIG, source=str(path), batch_size=3, held_out=0.0, max_bad_fraction=0.0)
    with pytest.raises(UserError, match=r"max_bad_fraction 0 allows: a\.tar/8 \(the tar breaks off here") as caught:
        list(strict.train_dataloader())
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_bad_samples(tmp_path, monkeypatch):
    """A dangling link, a folder in a picture's place, and a file that may not be read; in a folder and in a table."""
    names = write_pictures(tmp_path / "images", 4)
    (tmp_path / "images" / "0.png").unlink()
    (tmp_path / "images" / "0.png").symlink_to(tmp_path / "nowhere.png")
    for i in range(4):
        (tmp_path / "images" / f"{i}.txt").write_text(f"thing {i}")
    closed = str(tmp_path / "images" / "2.png")
    opened = Image.open

    def refuse(path, *args, **options):  # whoever may do everything can read a closed file, so the mode is no test
        if str(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return opened(path, *args, **options)

    monkeypatch.setattr(Image, "open", refuse)
    folder = open_source(str(tmp_path / "images"))
    write_csv(tmp_path / "a.csv", [["image", "caption"], *([name, "thing"] for name in names), ["images", "thing"]])
    table = open_source(str(tmp_path / "a.csv"))
    for source, reasons in (
        (folder, {0: "no such file", 2: "Permission denied"}),
        (table, {0: "no such file", 2: "Permission denied", 4: "Is a directory"}),
    ):
        for i in range(len(source)):
            if i in reasons:
                with pytest.raises(BadSample, match=reasons[i]):
                    source.image(i)
            else:
                source.image(i)
    for source, bad in ((tmp_path / "images", {"0.png", "2.png"}), (tmp_path / "a.csv", {*names[::2], "images"})):
        module = ClipDataModule(config=CONFIG, source=str(source), batch_size=2, held_out=0.0)
        list(module.train_dataloader())
        assert module.bad.keys() <= bad
        assert module.bad


# ---- images


def test_images_of_all_modes_become_rgb(tmp_path):
    rgba = Image.new("RGBA", (4, 4), (200, 10, 20, 0))
    rgba.save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").getpixel((0, 0)) == (200, 10, 20)  # dropped, not blended
    Image.fromarray(np.full((4, 4), 0x80FF, np.uint16)).save(tmp_path / "b.png")
    assert open_image(tmp_path / "b.png").getpixel((0, 0)) == (128, 128, 128)
    palette = rgba.convert("RGB").quantize(4)
    palette.info["transparency"] = b"\x00\x80"
    palette.save(tmp_path / "c.png")
    assert open_image(tmp_path / "c.png").getpixel((0, 0)) == (200, 10, 20)
    for mode in ("1", "L", "LA", "CMYK"):
        kind = "tiff" if mode == "CMYK" else "png"
        Image.new(mode, (4, 4)).save(tmp_path / f"d.{kind}")
        assert open_image((tmp_path / f"d.{kind}").read_bytes()).mode == "RGB"


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").size == (10, 20)


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(encoded(0)[:300])
    (tmp_path / "cut.jpg").write_bytes(encoded(0, "JPEG")[:400])
    for name in ("empty.png", "cut.png", "cut.jpg", "missing.png"):
        with pytest.raises(BadSample):
            open_image(tmp_path / name)
    with pytest.raises(BadSample):
        open_image(tmp_path)


# ---- the data module


@pytest.fixture
def table(tmp_path):
    names = write_pictures(tmp_path / "images", 60)
    return write_csv(tmp_path / "a.csv", [["image", "caption"], *([n, f"thing {i}"] for i, n in enumerate(names))])


def loaded(table, **settings):
    return ClipDataModule(config=CONFIG, **{"source": str(table), "batch_size": 10, **settings})


def test_batches_of_a_table(table):
    module = loaded(table, flip=0.5)
    batches = list(module.train_dataloader())
    assert len(batches) == module.batches_per_epoch == 5
    batch = batches[0]
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (10, 3, module.canvas, module.canvas)
    assert batch["tokens"].shape == (10, CONFIG.context)
    assert batch["tokens"].dtype == torch.int64
    assert batch["box"].shape == (10, 4)
    assert batch["flip"].any()
    assert not batch["flip"].all()
    assert not batch["bad"].any()
    done = module.on_after_batch_transfer(batch, 0)
    assert done["image"].shape == (10, 3, CONFIG.image_size, CONFIG.image_size)
    assert done["image"].dtype == torch.float32
    assert len(module.train_source) + len(module.held_out_source) == 60
    assert module.duplicates() == []


def test_validation_equals_the_preprocessing_of_inference(table):
    from zoo.clip.preprocessing import MEAN, STD

    module = loaded(table)
    batch = module.on_after_batch_transfer(next(iter(module.val_dataloader())), 0)
    size = CONFIG.image_size
    for place, i in enumerate(batch["index"].tolist()):
        image = module.held_out_source.image(i)
        pixels = torch.from_numpy(np.array(square(image, side=size, at=0.5))).permute(2, 0, 1) / 255
        expected = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        torch.testing.assert_close(batch["image"][place], expected, atol=1e-5, rtol=0)


def test_a_batch_on_the_device_equals_its_samples_one_by_one(table):
    module = loaded(table, flip=0.5, scale=(0.3, 1.0))
    batch = next(iter(module.train_dataloader()))
    together = prepare_images(batch, size=CONFIG.image_size)
    for i in range(10):
        alone = prepare_images({k: batch[k][i : i + 1] for k in ("image", "box", "flip")}, size=CONFIG.image_size)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_samples_are_counted_and_replaced(table, workers):
    module = loaded(table, max_bad_fraction=0.5, held_out=0.0, workers=workers)
    (table.parent / "images" / "7.png").write_bytes(b"broken")
    (table.parent / "images" / "8.png").unlink()
    batches = list(module.train_dataloader())
    assert sum(int(batch["bad"].sum()) for batch in batches) == 2
    assert module.bad.keys() == {"images/7.png", "images/8.png"}
    assert "no such file" in module.bad["images/8.png"]
    assert module.replaced >= 2
    again = list(loaded(table, max_bad_fraction=0.5, held_out=0.0).train_dataloader())
    for one, other in zip(batches, again, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["tokens"], other["tokens"])


def test_the_limit_stops(table):
    for i in range(20):
        (table.parent / "images" / f"{i}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"max_bad_fraction.*images/\d+.png \(not an image"):
        list(loaded(table, held_out=0.0).train_dataloader())


def test_empty_and_mistaken_settings(tmp_path, table):
    with pytest.raises(UserError, match="no pairs"):
        loaded(write_csv(tmp_path / "empty.csv", [["image", "caption"]])).setup()
    for settings in ({"scale": (0, 1)}, {"ratio": (2, 1)}, {"held_out": 1.0}, {"flip": 2}, {"long_text": "cut"}):
        with pytest.raises(UserError, match=next(iter(settings))):
            loaded(table, **settings)


@pytest.mark.filterwarnings("ignore:.*tokens were cut off a text")
def test_long_text(table):
    text = table.read_text(encoding="utf-8").replace("thing 3\n", "word " * 200 + "\n")
    table.write_text(text, encoding="utf-8")
    list(loaded(table, held_out=0.0).train_dataloader())
    with pytest.raises(UserError, match=r"images/3\.png") as caught:
        list(loaded(table, held_out=0.0, long_text="error", workers=1).train_dataloader())
    assert "\n" not in str(caught.value)


def test_prepare_writes_a_report(table, tmp_path, capsys):
    (table.parent / "images" / "7.png").write_bytes(b"broken")
    (table.parent / "images" / "9.png").write_bytes((table.parent / "images" / "10.png").read_bytes())
    out = tmp_path / "report.json"
    assert main(["prepare", "clip", str(table), "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert (report["samples"], report["usable"]) == (60, 59)
    assert list(report["bad"]) == ["images/7.png"]
    assert report["duplicates"] == [["images/9.png", "images/10.png"]]
    assert "59 of 60" in capsys.readouterr().out


def test_check_pairs_of_a_folder(tmp_path):
    write_pictures(tmp_path / "owl", 2)
    assert check_pairs(open_source(str(tmp_path)))["classes"] == {"owl": 2}
