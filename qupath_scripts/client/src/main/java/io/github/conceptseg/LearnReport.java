package io.github.conceptseg;

import io.github.conceptseg.v1.DictionaryInfo;
import io.github.conceptseg.v1.FittedDictionary;
import java.util.List;
import java.util.Locale;
import org.slf4j.LoggerFactory;

/** What was learned. */
public final class LearnReport {
    private final List<DictionaryInfo> dictionaries;
    private final int regions;
    private final double seconds;

    LearnReport(List<FittedDictionary> fitted, int regions, double seconds) {
        dictionaries = fitted.stream().map(FittedDictionary::getInfo).toList();
        this.regions = regions;
        this.seconds = seconds;
    }

    void log() {
        LoggerFactory.getLogger("ConceptSeg").info(toString());
    }

    /** What {@code dictionary(..)} takes later. */
    public List<String> getNames() {
        return dictionaries.stream().map(DictionaryInfo::getName).toList();
    }

    /** Everything about them. */
    public List<DictionaryInfo> getDictionaries() {
        return dictionaries;
    }

    /** Wall time. */
    public double getSeconds() {
        return seconds;
    }

    @Override
    public String toString() {
        return String.format(Locale.ROOT, "Learned %s from %s in %.1f s", String.join(", ", getNames()),
            Counted.of(regions, "region"), seconds);
    }
}
