from runner.seeding import derive_seed


def test_known_value_never_changes() -> None:
    # Another number here would change the batches of every run that is resumed or repeated.
    assert derive_seed(0, "order", 0) == 4_819_849_257_279_361_181


def test_all_parts_count_and_fit_into_63_bits() -> None:
    seeds = {
        derive_seed(seed, word, number) for seed in range(20) for word in ("order", "init") for number in range(50)
    }
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len({seed & 0xFFFFFFFF for seed in seeds}) > 1990
    assert derive_seed(1, 2) != derive_seed(12) != derive_seed(1, "2")
