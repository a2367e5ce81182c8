package io.github.conceptseg;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class CountedTest {
    @Test
    void oneIsSingular() {
        assertEquals("0 regions", Counted.of(0, "region"));
        assertEquals("1 region", Counted.of(1, "region"));
        assertEquals("2 earlier ones", Counted.of(2, "earlier one"));
    }
}
