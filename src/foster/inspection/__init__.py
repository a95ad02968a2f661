"""What a folder holds, for people who look at it: a summary in the terminal, or one HTML page.

``inspect.py`` knows the kinds of folders, one file a kind says what there is to see (``dataset.py``, ``condensed.py``,
``model.py``, ``bench.py``), ``page.py`` holds what they say, ``html.py`` writes it.
"""
