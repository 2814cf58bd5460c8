"""How fast documents are taken in: parsing with character boxes and storing, and embedding, said apart.

    python -m benchmarks.ingestion FILE... [--json]

Each file is added to a new library in a temporary folder, so nothing is found done. The figures are wall-clock seconds
of one run on the machine at hand; parser processes are started within them.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from longleaf.app.settings import load_settings
from longleaf.app.workbench import open_answerer, open_library


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, open_library(load_settings(home=Path(home))) as library:
        begun = time.perf_counter()
        documents = []
        for _, added in library.add_many(args.files):
            if isinstance(added, Exception):
                raise added
            documents.append(added.document)
        adding = time.perf_counter() - begun
        answerer = open_answerer(load_settings(), library, with_reader=False)
        begun = time.perf_counter()
        answerer.prepare(documents, embed=False)
        cutting = time.perf_counter() - begun
        n_passages = answerer.store.n_passages(documents)
        begun = time.perf_counter()
        answerer.prepare(documents)
        embedding = time.perf_counter() - begun
        database = sum(file.stat().st_size for file in Path(home).glob("longleaf.db*"))
    pages = sum(d.n_pages for d in documents)
    figures = {
        "documents": len(documents),
        "pages": pages,
        "seconds_text_and_boxes": round(adding, 2),
        "pages_per_second": round(pages / adding, 1),
        "seconds_passages": round(cutting, 2),
        "pages_per_second_with_passages": round(pages / (adding + cutting), 1),
        "passages": n_passages,
        "seconds_embedding": round(embedding, 2),
        "passages_per_second": round(n_passages / embedding, 1),
        "database_bytes_per_page": database // pages,
    }
    if not args.json:
        for key, value in figures.items():
            print(f"{key:32} {value:,}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
