package io.github.conceptseg;

import io.github.conceptseg.qupath.Results;
import io.github.conceptseg.qupath.Verdict;
import java.util.function.Predicate;
import qupath.lib.objects.PathObject;

/** Which results a reviewer wants to see. */
public enum ReviewFilter implements Predicate<PathObject> {
    /** All of them. */
    ALL("All", result -> true),
    /** Those that nobody said anything about. */
    OPEN("Not reviewed", result -> Verdict.of(result) == null && !Results.isReassigned(result)),
    /** Accepted ones. */
    ACCEPTED("Accepted", result -> Verdict.of(result) == Verdict.ACCEPTED),
    /** Rejected ones. */
    REJECTED("Rejected", result -> Verdict.of(result) == Verdict.REJECTED),
    /** Those that came from another concept. */
    REASSIGNED("Reassigned", Results::isReassigned);

    private final String title;
    private final Predicate<PathObject> wanted;

    ReviewFilter(String title, Predicate<PathObject> wanted) {
        this.title = title;
        this.wanted = wanted;
    }

    @Override
    public boolean test(PathObject result) {
        return wanted.test(result);
    }

    @Override
    public String toString() {
        return title;
    }
}
