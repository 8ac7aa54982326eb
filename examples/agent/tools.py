"""Two tools of a shop, for an agent: one looks, one does. They run in the sandbox."""

STOCK = [
    {"item": "kettle", "left": 3, "usd": 24.5},
    {"item": "toaster", "left": 0, "usd": 31.0},
    {"item": "tea pot", "left": 7, "usd": 18.0},
]


def find_items(words: str) -> list[dict]:
    """Find items of the shop by words of their names, with what is left of them and their price."""
    asked = words.lower().split()
    return [each for each in STOCK if any(word in each["item"] for word in asked)]


def order_item(item: str, count: int) -> dict:
    """Order some of an item. Fails where not so many are left."""
    for each in STOCK:
        if each["item"] == item and each["left"] >= count:
            return {"ordered": item, "count": count}
    raise ValueError(f"there are not {count} of {item}")
