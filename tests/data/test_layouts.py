"""Every layout on small files of the true form; their content is invented."""

import gzip
import json

import polars as pl
import pytest

from foster.data.layouts import find_layout
from foster.data.texts import render, tidy
from foster.data.timestamps import parse_times
from foster.errors import InputError

DAY = 86_400


def write(path, content, encoding="utf-8"):
    """Write text, or rows as JSON lines; packed where the name says so."""
    if not isinstance(content, str):
        content = "".join(json.dumps(row) + "\n" for row in content)
    data = content.encode(encoding)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def literals(rows, unicode_marks=False):
    """Write rows as Python prints them; with ``u'...'`` as Python 2 does."""

    def shown(value):
        if isinstance(value, str):
            return ("u" if unicode_marks else "") + repr(value)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{shown(key)}: {shown(part)}" for key, part in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(shown, value)) + "]"
        return repr(value)

    return "".join(shown(row) + "\n" for row in rows)


def events(layout):
    """The log as (user, item, time) in the order of its rows; times as the layout says they are written."""
    rows = layout.log.read([layout.user, layout.item, layout.time])
    assert set(rows.schema.dtypes()) == {pl.String}
    times = rows[layout.time]
    if layout.time_format is None:
        numbers = parse_times(times, "log").tolist()
    else:
        numbers = times.str.to_datetime(layout.time_format, time_unit="us").dt.epoch("s").to_list()
    return list(zip(rows[layout.user], rows[layout.item], numbers, strict=True))


def texts(layout):
    """The text of each item, as ``prepare`` would make it."""
    table = layout.items or layout.log
    rows = table.read([layout.item_key, *layout.text])
    assert set(rows.schema.dtypes()) == {pl.String}
    tidied = pl.DataFrame([tidy(rows[field]) for field in layout.text])
    return dict(zip(rows[layout.item_key], render(tidied, layout.text, None), strict=True))


def refused(folder, *said):
    with pytest.raises(InputError) as error:
        layout = find_layout([folder])
        layout.log.read()
        layout.items.read()
    message = str(error.value)
    assert "\n" not in message
    for words in said:
        assert words in message
    return message


# Amazon


def amazon_2014(folder):
    review = {"reviewerName": "A", "helpful": [0, 1], "reviewText": "fine", "overall": 5.0, "summary": "title"}
    rows = [
        {"reviewerID": "A2", "asin": "0000000002", **review, "unixReviewTime": 3 * DAY, "reviewTime": "01 4, 1970"},
        {"reviewerID": "A1", "asin": "0000000001", **review, "unixReviewTime": DAY, "reviewTime": "01 2, 1970"},
    ]
    write(folder / "reviews_Beauty_5.json.gz", rows)
    meta = [
        {"asin": "0000000001", "categories": [["Beauty", "Lip Balm"], ["Gifts"]], "title": 'Bee\'s "best" balm'},
        {"asin": "0000000002", "price": 3.17, "brand": "Maker", "salesRank": {"Beauty": 7}, "categories": [["Beauty"]]},
        {"asin": "0000000003", "title": "", "brand": "", "related": {"also_bought": ["1"]}, "categories": [["Beauty"]]},
    ]
    write(folder / "meta_Beauty.json.gz", literals(meta))


def test_amazon_2014(tmp_path):
    amazon_2014(tmp_path)
    layout = find_layout([tmp_path])
    assert layout.name == "Amazon Reviews 2014"
    assert events(layout) == [("A2", "0000000002", 3 * DAY), ("A1", "0000000001", DAY)]
    assert texts(layout) == {
        "0000000001": 'Bee\'s "best" balm, Beauty, Lip Balm, Gifts',
        "0000000002": "Maker, Beauty",
        "0000000003": "Beauty",
    }
    items = layout.items.read().rows_by_key("asin", named=True, unique=True)
    assert items["0000000003"] == {
        **dict.fromkeys(set(layout.items.columns) - {"asin"}),
        "related": '{"also_bought": ["1"]}',
        "categories": '[["Beauty"]]',
    }
    assert items["0000000002"]["price"] == "3.17"


def test_files_named_one_by_one_are_the_same_as_their_folder(tmp_path):
    amazon_2014(tmp_path)
    paths = [tmp_path / "meta_Beauty.json.gz", tmp_path / "reviews_Beauty_5.json.gz"]
    layout = find_layout(paths)
    assert layout.files == (paths[1], paths[0])
    assert events(layout) == events(find_layout([tmp_path]))


def test_reviews_may_be_in_python_notation_too(tmp_path):
    """The files of 2014 that hold all reviews are read line by line with eval on their page."""
    amazon_2014(tmp_path)
    with gzip.open(tmp_path / "reviews_Beauty_5.json.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    write(tmp_path / "reviews_Beauty_5.json.gz", literals(rows))
    assert events(find_layout([tmp_path])) == [("A2", "0000000002", 3 * DAY), ("A1", "0000000001", DAY)]


def test_amazon_2014_with_a_line_that_is_no_object(tmp_path):
    amazon_2014(tmp_path)
    write(tmp_path / "meta_Beauty.json.gz", "{'asin': '1', 'categories': []}\n\n{'asin': '2', \n")
    refused(tmp_path, "meta_Beauty.json.gz: line 3 is neither a JSON object nor one in Python's notation")


def test_code_in_python_notation_is_not_run(tmp_path):
    amazon_2014(tmp_path)
    code = f"{{'asin': __import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()}}\n"
    write(tmp_path / "meta_Beauty.json.gz", "{'asin': '1', 'categories': []}\n" + code)
    refused(tmp_path, "line 2 is neither")
    assert not (tmp_path / "ran").exists()


def amazon_2018(folder):
    review = {"overall": 5.0, "verified": True, "reviewText": "fine", "summary": "Five Stars"}
    rows = [
        {**review, "reviewerID": "A1", "asin": "B1", "reviewTime": "01 2, 1970", "unixReviewTime": DAY},
        {**review, "reviewerID": "A2", "asin": "B2", "unixReviewTime": 2 * DAY, "style": {"Color:": " Red"}},
    ]
    write(folder / "Video_Games_5.json.gz", rows)
    meta = [
        {"category": ["Video Games", "PC"], "tech1": "", "title": "Chess", "brand": "Maker", "main_cat": "Video Games",
         "price": "$5", "asin": "B1"},
        {"category": [], "title": "<span>Go</span>", "brand": "", "main_cat": "Video Games", "price": "", "asin": "B2"},
    ]  # fmt: skip
    write(folder / "meta_Video_Games.json.gz", meta)


def test_amazon_2018(tmp_path):
    amazon_2018(tmp_path)
    layout = find_layout([tmp_path])
    assert layout.name == "Amazon Reviews 2018"
    assert events(layout) == [("A1", "B1", DAY), ("A2", "B2", 2 * DAY)]
    assert texts(layout) == {"B1": "Chess, Maker, Video Games, PC", "B2": "<span>Go</span>"}
    assert any("HTML" in note for note in layout.notes)
    assert layout.items.read(["brand"])["brand"].to_list() == ["Maker", None]


def test_documented_columns_are_there_even_if_no_row_has_them(tmp_path):
    amazon_2018(tmp_path)
    write(tmp_path / "meta_Video_Games.json.gz", [{"asin": "B1", "category": [], "title": "Chess"}])
    assert texts(find_layout([tmp_path])) == {"B1": "Chess"}


def test_amazon_without_its_metadata(tmp_path):
    amazon_2018(tmp_path)
    (tmp_path / "meta_Video_Games.json.gz").unlink()
    refused(tmp_path, "Video_Games_5.json.gz", "meta_CATEGORY.json.gz is missing", "https://nijianmo.github.io/amazon/")
    with pytest.raises(InputError, match=r"meta_CATEGORY\.json\.gz is missing.*name both files"):
        find_layout([tmp_path / "Video_Games_5.json.gz"])


def test_metadata_without_their_reviews(tmp_path):
    amazon_2018(tmp_path)
    (tmp_path / "Video_Games_5.json.gz").unlink()
    refused(tmp_path, "meta_Video_Games.json.gz is of Amazon Reviews 2018", "the file of its reviews is missing")


def test_an_item_table_of_ones_own_is_read_as_any_table(tmp_path):
    amazon_2018(tmp_path)
    own = write(tmp_path / "titles.csv", "asin,title\nB1,Chess\n")
    assert find_layout([tmp_path / "Video_Games_5.json.gz", own]) is None


def test_reviews_of_one_year_and_metadata_of_another(tmp_path):
    amazon_2018(tmp_path / "a")
    amazon_2014(tmp_path / "b")
    paths = [tmp_path / "a" / "Video_Games_5.json.gz", tmp_path / "b" / "meta_Beauty.json.gz"]
    with pytest.raises(InputError, match=r"is of Amazon Reviews 2018, but .* of Amazon Reviews 2014"):
        find_layout(paths)


def test_a_folder_of_two_categories(tmp_path):
    amazon_2018(tmp_path)
    with gzip.open(tmp_path / "Video_Games_5.json.gz", "rt") as file:
        write(tmp_path / "Software_5.json.gz", file.read())
    refused(tmp_path, "holds both Software_5.json.gz and Video_Games_5.json.gz")


def test_a_file_and_its_unpacked_copy(tmp_path):
    amazon_2018(tmp_path)
    with gzip.open(tmp_path / "Video_Games_5.json.gz", "rt") as file:
        write(tmp_path / "Video_Games_5.json", file.read())
    refused(tmp_path, "holds both Video_Games_5.json and Video_Games_5.json.gz")


META_2023 = [
    {"main_category": "Video Games", "title": "Chess", "average_rating": 4.5, "store": "Maker",
     "categories": ["Video Games", "PC"], "details": {"Brand": "x"}, "parent_asin": "B1"},
    {"main_category": None, "title": "Go", "store": None, "categories": [], "details": {}, "parent_asin": "B2"},
]  # fmt: skip


def amazon_2023(folder):
    review = {
        "rating": 5.0,
        "title": "It broke",
        "text": "",
        "images": [],
        "helpful_vote": 0,
        "verified_purchase": True,
    }
    rows = [
        {**review, "asin": "B1-red", "parent_asin": "B1", "user_id": "AE1", "timestamp": 1_600_000_000_123},
        {**review, "asin": "B2", "parent_asin": "B2", "user_id": "AE2", "timestamp": 1_500_000_000_000},
    ]
    write(folder / "Video_Games.jsonl.gz", rows)
    write(folder / "meta_Video_Games.jsonl.gz", META_2023)


def test_amazon_2023(tmp_path):
    amazon_2023(tmp_path)
    layout = find_layout([tmp_path])
    assert layout.name == "Amazon Reviews 2023"
    assert events(layout) == [("AE1", "B1", 1_600_000_000_123), ("AE2", "B2", 1_500_000_000_000)]
    assert texts(layout) == {"B1": "Chess, Maker, Video Games, PC", "B2": "Go"}


def test_amazon_2023_ratings(tmp_path):
    rows = "user_id,parent_asin,rating,timestamp\nAE1,B1,3.0,1452647382000\nAE1,B2,4.0,1454675785000\n"
    write(tmp_path / "Video_Games.csv", rows)
    write(tmp_path / "meta_Video_Games.jsonl", META_2023)
    assert events(find_layout([tmp_path])) == [("AE1", "B1", 1452647382000), ("AE1", "B2", 1454675785000)]


def amazon_2023_parts(folder):
    header = "user_id,parent_asin,rating,timestamp,history\n"
    write(folder / "Video_Games.train.csv.gz", header + "AE1,B1,3.0,1,\n")
    write(folder / "Video_Games.valid.csv.gz", header + "AE1,B2,3.0,2,B1\n")
    write(folder / "Video_Games.test.csv.gz", header + "AE1,B1,3.0,3,B1 B2\n")
    write(folder / "meta_Video_Games.jsonl.gz", META_2023)


def test_amazon_2023_parts_of_a_split_are_one_log(tmp_path):
    amazon_2023_parts(tmp_path)
    layout = find_layout([tmp_path])
    assert events(layout) == [("AE1", "B1", 1), ("AE1", "B2", 2), ("AE1", "B1", 3)]
    assert [path.name.split(".")[1] for path in layout.files[:3]] == ["train", "valid", "test"]


def test_amazon_2023_without_a_part_of_the_split(tmp_path):
    amazon_2023_parts(tmp_path)
    (tmp_path / "Video_Games.test.csv.gz").unlink()
    refused(tmp_path, "of the parts train, valid and test of Video_Games, test is not there")


def test_a_table_with_texts_of_its_own_is_no_file_of_ratings(tmp_path):
    write(tmp_path / "log.csv", "user_id,parent_asin,rating,timestamp,title\nAE1,B1,3.0,1452647382000,Chess\n")
    assert find_layout([tmp_path / "log.csv"]) is None


# Yelp


def yelp(folder):
    review = {"review_id": "r", "stars": 3.0, "useful": 0, "funny": 0, "cool": 0, "text": "good"}
    rows = [
        {**review, "user_id": "u-1", "business_id": "b_1", "date": "2018-07-07 22:09:11"},
        {**review, "user_id": "u-2", "business_id": "b_2", "date": "2012-01-03 15:28:18"},
    ]
    write(folder / "yelp_academic_dataset_review.json", rows)
    businesses = [
        {"business_id": "b_1", "name": "Abby's", "city": "Reno", "attributes": {"WiFi": "u'free'"},
         "categories": "Doctors, Health & Medical", "hours": None},
        {"business_id": "b_2", "name": "The Store", "city": "Reno", "attributes": None, "categories": None},
    ]  # fmt: skip
    write(folder / "yelp_academic_dataset_business.json", businesses)
    write(folder / "yelp_academic_dataset_tip.json", [{"user_id": "u-1", "business_id": "b_1", "date": "2012-01-01"}])
    write(folder / "yelp_academic_dataset_user.json", [{"user_id": "u-1", "name": "Ann", "review_count": 2}])


def test_yelp(tmp_path):
    yelp(tmp_path)
    layout = find_layout([tmp_path])
    assert events(layout) == [("u-1", "b_1", 1531001351), ("u-2", "b_2", 1325604498)]
    assert texts(layout) == {"b_1": "Abby's, Doctors, Health & Medical", "b_2": "The Store"}


def test_yelp_without_businesses(tmp_path):
    yelp(tmp_path)
    (tmp_path / "yelp_academic_dataset_business.json").unlink()
    refused(tmp_path, "yelp_academic_dataset_business.json is missing")


# MovieLens

GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip


def movielens_100k(folder):
    def flags(*on):
        return "|".join("1" if genre in on else "0" for genre in GENRES)

    write(folder / "u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    movies = [
        f'242|Café "Noir" (1996)|01-Jan-1996||http://x|{flags("Comedy", "Film-Noir")}',
        f"302|unknown||||{flags('unknown')}",
    ]
    write(folder / "u.item", "\n".join(movies) + "\n", "iso-8859-1")
    write(folder / "u.genre", "".join(f"{name}|{number}\n" for number, name in enumerate(GENRES)) + "\n")
    write(folder / "u.user", "196|49|M|writer|55105\n")


def test_movielens_100k(tmp_path):
    movielens_100k(tmp_path)
    layout = find_layout([tmp_path])
    assert layout.name == "MovieLens 100K"
    assert events(layout) == [("196", "242", 881250949), ("186", "302", 891717742)]
    assert texts(layout) == {"242": 'Café "Noir" (1996), Comedy, Film-Noir', "302": "unknown"}
    assert layout.items.read(["Comedy", "release_date"]).rows() == [("1", "01-Jan-1996"), ("0", None)]


def test_movielens_100k_with_a_broken_row(tmp_path):
    movielens_100k(tmp_path)
    write(tmp_path / "u.data", "196\t242\t3\t881250949\n\n186\t302\t891717742\n")
    refused(tmp_path, "u.data: line 3 has 3 fields, but 4 are needed")


@pytest.mark.parametrize(("folder", "encoding"), [("ml-1m", "iso-8859-1"), ("ml-10M100K", "utf-8")])
def test_movielens_1m_and_10m(tmp_path, folder, encoding):
    # Unpacked archives often hold a folder of the same name.
    folder = tmp_path / folder / folder
    write(folder / "ratings.dat", "1::1193::5::978300760\r\n1::661::3.5::978302109\r\n")
    movies = '661::Amélie: the "film" (2001)::Comedy|Romance\n1193::Up (2009)::(no genres listed)\n'
    write(folder / "movies.dat", movies, encoding)
    write(folder / "users.dat", "1::F::1::10::48067\n")
    layout = find_layout([folder.parent])
    assert events(layout) == [("1", "1193", 978300760), ("1", "661", 978302109)]
    assert texts(layout) == {"661": 'Amélie: the "film" (2001), Comedy, Romance', "1193": "Up (2009)"}


def test_movielens_1m_with_a_broken_row(tmp_path):
    write(tmp_path / "ratings.dat", "1::1193::5::978300760\n1::661::3\n")
    write(tmp_path / "movies.dat", "661::Up (2009)::Comedy\n")
    refused(tmp_path, "ratings.dat: line 2 has 3 fields, but 4 are needed")


def test_ratings_that_are_no_utf8(tmp_path):
    write(tmp_path / "ratings.dat", "1::1193::5::978300760\né::661::3::1\n", "iso-8859-1")
    write(tmp_path / "movies.dat", "661::Up (2009)::Comedy\n")
    refused(tmp_path, "ratings.dat: cannot be read (it is no UTF-8 text)")


def test_movielens_csv(tmp_path):
    write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n01,29,3.5,1112484676\n")
    movies = 'movieId,title,genres\n2,"Matrix, The (1999)",Action|Sci-Fi\n29,Up (2009),(no genres listed)\n'
    write(tmp_path / "movies.csv", movies)
    write(tmp_path / "links.csv", "movieId,imdbId,tmdbId\n2,1,1\n")
    write(tmp_path / "tags.csv", "userId,movieId,tag,timestamp\n1,2,fun,1\n")
    layout = find_layout([tmp_path])
    assert events(layout) == [("1", "2", 1112486027), ("01", "29", 1112484676)]
    assert texts(layout) == {"2": "Matrix, The (1999), Action, Sci-Fi", "29": "Up (2009)"}
    assert layout.items.read(["genres"])["genres"].to_list() == ["Action, Sci-Fi", None]


def test_movielens_csv_without_movies(tmp_path):
    write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n")
    refused(tmp_path, "movies.csv is missing", "https://grouplens.org/datasets/movielens/")


# Steam


def steam(folder):
    rows = [
        {"username": "Ann 😀", "hours": 0.1, "products": 41, "product_id": "725280", "date": "2017-12-17",
         "text": "good \\ \"x\"", "early_access": False, "page": 1},
        {"username": "Bo", "user_id": "76561", "product_id": "328100", "date": "2017-08-02", "text": "it's ok"},
    ]  # fmt: skip
    write(folder / "steam_reviews.json.gz", literals(rows, unicode_marks=True))
    games = [
        {"publisher": "P", "genres": ["Action", "Indie"], "app_name": "Lost Cat", "title": "Lost Cat", "url": "http://x",
         "tags": ["Strategy"], "price": 4.99, "early_access": False, "id": "725280", "developer": "D's"},
        {"app_name": "Old", "url": "http://x", "id": "328100", "price": "Free To Play"},
        {"app_name": None, "url": "", "price": 19.99},
    ]  # fmt: skip
    write(folder / "steam_games.json.gz", literals(games, unicode_marks=True))


def test_steam(tmp_path):
    steam(tmp_path)
    layout = find_layout([tmp_path])
    assert events(layout) == [("Ann 😀", "725280", 1513468800), ("Bo", "328100", 1501632000)]
    assert texts(layout) == {"725280": "Lost Cat, D's, Action, Indie", "328100": "Old"}
    rows = layout.log.read(["text", "early_access", "user_id"]).rows()
    assert rows == [('good \\ "x"', "false", None), ("it's ok", None, "76561")]


def test_signs_beyond_16_bits_that_python_2_wrote_as_two(tmp_path):
    steam(tmp_path)
    write(
        tmp_path / "steam_reviews.json.gz",
        "{u'username': u'\\ud83d\\ude00', u'product_id': u'1', u'date': u'2017-12-17'}\n",
    )
    assert events(find_layout([tmp_path]))[0][0] == "😀"


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        (
            "australian_users_items.json.gz",
            {"user_id": "a", "items_count": 1, "items": [{"item_id": "10"}]},
            "no times",
        ),
        ("australian_user_reviews.json.gz", {"user_id": "a", "user_url": "x", "reviews": []}, "a date without a year"),
    ],
)
def test_files_of_steam_without_times(tmp_path, name, row, said):
    write(tmp_path / name, literals([row]))
    refused(tmp_path, name, said, "take steam_reviews.json.gz")


# Goodreads


def goodreads(folder):
    row = {"review_id": "r", "is_read": True, "rating": 4, "date_updated": "", "started_at": ""}
    rows = [
        {"user_id": "8842", "book_id": "0130", **row, "date_added": "Fri Sep 08 10:44:26 -0700 2017", "read_at": ""},
        {"user_id": "8842", "book_id": "5", **row, "date_added": "Mon Aug 01 13:41:57 +0000 2011", "read_at": ""},
    ]
    write(folder / "goodreads_interactions_comics_graphic.json.gz", rows)
    shelves = ["to-read", "sci-fi", "owned", 'space "opera"', "a", "b", "c", "d"]
    books = [
        {"isbn": "", "title": "The Book", "authors": [{"author_id": "7", "role": ""}, {"author_id": "9"}],
         "popular_shelves": [{"count": "3", "name": name} for name in shelves], "book_id": "0130"},
        {"isbn": "", "title": "Other", "authors": [], "popular_shelves": [], "book_id": "5"},
    ]  # fmt: skip
    write(folder / "goodreads_books_comics_graphic.json.gz", books)


def test_goodreads(tmp_path):
    goodreads(tmp_path)
    layout = find_layout([tmp_path])
    assert events(layout) == [("8842", "0130", 1504892666), ("8842", "5", 1312206117)]
    assert texts(layout) == {"0130": 'The Book, sci-fi, space "opera", a, b, c', "5": "Other"}


def test_goodreads_with_names_of_authors(tmp_path):
    goodreads(tmp_path)
    authors = [{"author_id": "9", "name": "Bo B.", "ratings_count": "1"}, {"author_id": "7", "name": "Ann"}]
    write(tmp_path / "goodreads_book_authors.json.gz", authors)
    assert texts(find_layout([tmp_path]))["0130"] == 'The Book, Ann, Bo B., sci-fi, space "opera", a, b, c'


def test_goodreads_interactions_without_times(tmp_path):
    goodreads(tmp_path)
    (tmp_path / "goodreads_interactions_comics_graphic.json.gz").unlink()
    write(tmp_path / "goodreads_interactions.csv", "user_id,book_id,is_read,rating,is_reviewed\n0,948,1,5,0\n")
    write(tmp_path / "book_id_map.csv", "book_id_csv,book_id\n0,34684622\n")
    refused(tmp_path, "goodreads_interactions.csv: holds no times", "goodreads_interactions_dedup.json.gz")


# MIND


def mind(folder, second="N4-0 N5-1 N-6-1"):
    behaviors = [
        "1\tU1\t11/15/2019 8:55:22 AM\tN1 N2\tN3-1 N4-0",
        f"2\tU1\t11/11/2019 12:03:05 PM\tN1 N2\t{second}",
        "3\tU2\t11/12/2019 6:11:30 PM\t\tN1-1",
    ]
    write(folder / "behaviors.tsv", "\n".join(behaviors))
    news = [
        'N1\tlifestyle\troyals\t"The title\tAbstract\thttp://x\t[{"Label": "x"}]\t[]',
        "N2\tsports\tgolf\tPar\t\thttp://x\t[]\t[]",
    ]
    write(folder / "news.tsv", "\n".join(news) + "\n")
    write(folder / "entity_embedding.vec", "Q1\t0.1\n")


def test_mind(tmp_path):
    mind(tmp_path)
    layout = find_layout([tmp_path])
    first, later = 1573473785, {"U1": 1573808122, "U2": 1573582290}
    assert events(layout) == [
        ("U1", "N1", first),
        ("U1", "N2", first),
        ("U1", "N3", later["U1"]),
        ("U1", "N5", first),
        ("U1", "N-6", first),
        ("U2", "N1", later["U2"]),
    ]
    assert texts(layout) == {"N1": '"The title, lifestyle, royals', "N2": "Par, sports, golf"}


def test_mind_takes_the_history_of_the_first_impression(tmp_path):
    mind(tmp_path)
    rows = ["1\tU1\t11/15/2019 8:55:22 AM\tN1 N2 N3\tN4-1", "2\tU1\t11/11/2019 8:00:00 AM\tN1 N2\tN3-1"]
    write(tmp_path / "behaviors.tsv", "\n".join(rows))
    assert [item for _, item, _ in events(find_layout([tmp_path]))] == ["N1", "N2", "N4", "N3"]


def test_mind_test_set_holds_no_clicks(tmp_path):
    mind(tmp_path, second="N4 N5")
    refused(tmp_path, "behaviors.tsv: impression 2 does not say of each news whether it was clicked")


# H&M and REES46


def hm(folder, zero="0"):
    write(
        folder / "transactions_train.csv",
        "t_dat,customer_id,article_id,price,sales_channel_id\n"
        f"2018-09-20,00005,{zero}663713001,0.0508,2\n2018-09-21,00005,{zero}541518023,0.0304,2\n",
    )
    write(
        folder / "articles.csv",
        "article_id,product_code,prod_name,product_type_name,product_group_name,department_name,detail_desc\n"
        '0663713001,663713,"Atlanta, ""push"" body",Underwear body,Underwear,Expressive,"Body,\nin lace"\n'
        "0541518023,541518,Rae,Bra,Underwear,,\n",
    )
    write(folder / "customers.csv", "customer_id,age\n00005,49\n")


def test_hm(tmp_path):
    hm(tmp_path)
    layout = find_layout([tmp_path])
    assert events(layout) == [("00005", "0663713001", 1537401600), ("00005", "0541518023", 1537488000)]
    assert texts(layout) == {
        "0663713001": 'Atlanta, "push" body, Underwear body, Underwear, Expressive',
        "0541518023": "Rae, Bra, Underwear",
    }


def test_hm_whose_ids_lost_their_zeros(tmp_path):
    hm(tmp_path, zero="")
    refused(tmp_path, "transactions_train.csv: its article_id '663713001' has lost the zero")


REES46 = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"


def rees46(folder):
    november = "2019-11-01 00:00:02 UTC,cart,1003461,2053,electronics.smartphone,xiaomi,489.07,520088904,4d3b\n"
    october = "2019-10-01 00:00:00 UTC,view,44600062,2103,,shiseido,35.79,541312140,72d7\n"
    write(folder / "2019-Nov.csv", REES46 + november)
    write(folder / "2019-Oct.csv", REES46 + october)


def test_rees46_months_are_one_log_in_the_order_of_time(tmp_path):
    rees46(tmp_path)
    layout = find_layout([tmp_path])
    assert events(layout) == [("541312140", "44600062", 1569888000), ("520088904", "1003461", 1572566402)]
    assert texts(layout) == {"44600062": "shiseido", "1003461": "xiaomi, electronics.smartphone"}
    assert [path.name for path in layout.files] == ["2019-Oct.csv", "2019-Nov.csv"]
    assert len(events(find_layout([tmp_path / "2019-Oct.csv"]))) == 1


def test_rees46_with_a_month_twice(tmp_path):
    rees46(tmp_path)
    write(tmp_path / "2019-Oct.csv.gz", REES46)
    refused(tmp_path, "holds both 2019-Oct.csv")


def test_rees46_with_a_broken_row_in_one_month(tmp_path):
    rees46(tmp_path)
    write(tmp_path / "2019-Nov.csv", REES46 + "2019-11-01 00:00:02 UTC,cart,1,2,a,b,1.0,5,s,too,much\n")
    with pytest.raises(InputError, match=r"^\S+2019-Nov\.csv: line 2 has 11 fields, but the header has 9"):
        find_layout([tmp_path]).log.read()


# Kuaishou

RAND = "user_id,video_id,date,hourmin,time_ms,is_click,is_like,tab\n"


def kuairand(folder, release="pure"):
    data = folder / "data"
    write(data / f"log_standard_4_22_to_5_08_{release}.csv", RAND + "0,3,20220422,700,1650582000000,1,0,1\n")
    standard = "0,7,20220408,1400,1649397600000,1,0,1\n0,5,20220408,1400,1649397600001,0,0,1\n"
    write(data / f"log_standard_4_08_to_4_21_{release}.csv", RAND + standard)
    write(data / f"log_random_4_22_to_5_08_{release}.csv", RAND + "0,9,20220422,700,1650582000005,1,0,1\n")
    write(data / f"user_features_{release}.csv", "user_id,user_active_degree\n0,full_active\n")
    features = 'video_id,author_id,video_type,upload_dt,tag\n3,1,NORMAL,2022-03-23,"12,65"\n7,1,AD,2022-03-23,\n'
    write(data / f"video_features_basic_{release}.csv", features)
    write(folder / "README.md", "KuaiRand")


def test_kuairand(tmp_path):
    kuairand(tmp_path)
    layout = find_layout([tmp_path])
    assert events(layout) == [("0", "7", 1649397600000), ("0", "3", 1650582000000)]
    assert (layout.item_key, texts(layout)) == ("video_id", {"3": "12,65", "7": ""})
    assert any("say little" in note and "kuairand_video_captions.csv" in note for note in layout.notes)


def test_kuairand_with_captions_and_categories(tmp_path):
    kuairand(tmp_path)
    captions = 'final_video_id,caption,show_cover_text\n0,unseen,\n3,"two\nlines, here",UNKNOWN\n7,UNKNOWN,\n'
    write(tmp_path / "kuairand_video_captions.csv", captions)
    levels = "final_video_id,first_level_category_id,first_level_category_name,second_level_category_name\n"
    write(tmp_path / "kuairand_video_categories.csv", levels + "7,8.0,Food,UNKNOWN\n3,2.0,Music,Folk\n")
    assert texts(find_layout([tmp_path])) == {"3": "two lines, here, Music, Folk", "7": "Food"}


def test_kuairand_logs_of_different_columns(tmp_path):
    kuairand(tmp_path)
    header = RAND.replace(",tab", ",is_rand")
    write(tmp_path / "data" / "log_standard_4_22_to_5_08_pure.csv", header + "0,3,20220422,700,1650582000000,1,0,1\n")
    refused(
        tmp_path, "log_standard_4_22_to_5_08_pure.csv: its columns are", "but those of log_standard_4_08_to_4_21_pure"
    )


def test_kuairand_of_two_releases(tmp_path):
    kuairand(tmp_path)
    write(tmp_path / "data" / "log_standard_4_08_to_4_21_1k.csv", RAND + "0,7,20220408,1400,1649397600000,1,0,1\n")
    refused(tmp_path, "holds files of 1k and pure")


CAPTIONS = (
    "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,first_level_category_name,"
    "second_level_category_id,second_level_category_name,third_level_category_id,third_level_category_name\n"
)


def kuairec(folder, captions):
    data = folder / "KuaiRec 2.0" / "data"
    log = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
    rows = (
        "14,148,4381,6067,2020-07-05 05:27:48.378,20200705,1593898068.378,0.72\n"
        "14,183,11635,6100,2020-07-05 05:28:00.057,20200705,1593898080.057,1.9\n"
    )
    write(data / "big_matrix.csv", log + rows)
    write(data / "small_matrix.csv", log + "14,999,1,1,,20200705,1593898080.1,1\n")
    write(data / "kuairec_caption_category.csv", CAPTIONS + captions)
    return data


def test_kuairec(tmp_path):
    kuairec(
        tmp_path,
        '148,UNKNOWN,"Tea, hot",[茶],1,Food,2,Drinks,-124,UNKNOWN\n183,x,,[],8,Music,-124,UNKNOWN,-124,UNKNOWN\n',
    )
    layout = find_layout([tmp_path])
    assert events(layout) == [("14", "148", 1593898068.378), ("14", "183", 1593898080.057)]
    assert texts(layout) == {"148": "Tea, hot, Food, Drinks", "183": "Music"}


def test_kuairec_captions_with_ends_of_lines_in_them(tmp_path):
    rest = "[],1,Food,2,Drinks,-124,UNKNOWN\n"
    broken = f"148,x,first\n2nd, {rest}149,x,cut\n150,x,whole,{rest}lost\n151,x,a\nb\nc,{rest}"
    kuairec(tmp_path, broken.replace("2nd, [", "2nd,["))
    layout = find_layout([tmp_path])
    assert texts(layout) == {
        "148": "first 2nd, Food, Drinks",
        "150": "whole, Food, Drinks",
        "151": "a b c, Food, Drinks",
    }
    assert "Left out of kuairec_caption_category.csv: 2 broken rows." in layout.notes


def test_kuairec_captions_with_an_open_quote(tmp_path):
    rest = "[],1,Food,2,Drinks,-124,UNKNOWN\n"
    data = kuairec(tmp_path, f'148,x,"open,{rest}149,x,fine,{rest}150,x,closed",{rest}')
    assert "line 4 ends a quote that rows above it opened" in refused(tmp_path, str(data))


def test_kuairec_without_captions(tmp_path):
    (kuairec(tmp_path, "") / "kuairec_caption_category.csv").unlink()
    refused(tmp_path, "kuairec_caption_category.csv is missing", "https://kuairec.com")


# RecBole

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def recbole(folder):
    write(folder / "x.inter", INTER + "u1\t007\t5\t978300760\nu1\t8\t3\t978300761\n")
    write(folder / "x.item", 'item_id:token\ttitle:token_seq\tclass:token_seq\n007\t"Big" Fish\tDrama War\n8\t"Up\t\n')
    write(folder / "x.user", "user_id:token\tage:token\nu1\t1\n")


def test_recbole(tmp_path):
    recbole(tmp_path)
    layout = find_layout([tmp_path])
    assert events(layout) == [("u1", "007", 978300760), ("u1", "8", 978300761)]
    assert layout.items.read().rows() == [("007", '"Big" Fish', "Drama War"), ("8", '"Up', None)]
    assert layout.text == ()


def test_recbole_parts_of_a_split_are_one_log(tmp_path):
    for time, part in enumerate(("train", "valid", "test")):
        write(tmp_path / f"x.{part}.inter", f"{INTER}u1\ti{time}\t5\t{time}\n")
    assert events(find_layout([tmp_path])) == [("u1", "i0", 0), ("u1", "i1", 1), ("u1", "i2", 2)]
    (tmp_path / "x.valid.inter").unlink()
    refused(tmp_path, "the part valid is not there")


def test_recbole_of_other_columns_is_read_as_any_table(tmp_path):
    write(tmp_path / "x.inter", "session_id:token\titem_id:token\ttimestamp:float\ns\t1\t1\n")
    assert find_layout([tmp_path]) is None


# All


def test_a_name_alone_is_no_layout(tmp_path):
    write(tmp_path / "ratings.csv", "user,item,when\n1,2,3\n")
    write(tmp_path / "movies.csv", "item,title\n2,Up\n")
    write(tmp_path / "u.data", "1 2 3 4\n")
    write(tmp_path / "behaviors.tsv", "user\titem\n")
    write(tmp_path / "meta_x.json", "[1, 2]\n")
    write(tmp_path / "reviews_x.json.gz", "not json")
    (tmp_path / "steam_reviews.json.gz").write_bytes(b"\x1f\x8bcut")
    assert find_layout([tmp_path]) is None


@pytest.mark.parametrize("paths", [[], ["none.csv"], ["a", "b"]])
def test_what_is_no_file_is_no_layout(tmp_path, paths):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert find_layout([tmp_path / path for path in paths]) is None


def test_a_folder_of_two_data_sets(tmp_path):
    recbole(tmp_path)
    rees46(tmp_path)
    refused(tmp_path, "holds both RecBole (x.inter) and REES46 (2019-Oct.csv)")


def test_an_archive_is_to_be_unpacked(tmp_path):
    with pytest.raises(InputError, match=r"ml-1m\.zip: is an archive; unpack it"):
        find_layout([write(tmp_path / "ml-1m.zip", "PK")])


def test_a_damaged_archive_says_where_it_ends(tmp_path):
    amazon_2014(tmp_path)
    path = tmp_path / "meta_Beauty.json.gz"
    write(path, literals({"asin": f"{number}", "categories": [[f"{number**3}"]]} for number in range(20_000)))
    path.write_bytes(path.read_bytes()[:-1000])
    refused(tmp_path, "meta_Beauty.json.gz: cannot be unpacked after line 1", "fetch the file again")
