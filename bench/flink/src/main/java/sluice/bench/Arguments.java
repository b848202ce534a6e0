package sluice.bench;

import java.util.HashMap;
import java.util.Map;

/** The arguments of a job, each NAME=VALUE. None has a default: what is measured is said by the benchmark. */
final class Arguments {
    private final Map<String, String> values = new HashMap<>();

    Arguments(String[] arguments) {
        for (String argument : arguments) {
            int at = argument.indexOf('=');
            if (at < 0) {
                throw new IllegalArgumentException("argument " + argument + ": want NAME=VALUE");
            }
            values.put(argument.substring(0, at), argument.substring(at + 1));
        }
    }

    String text(String name) {
        String value = values.get(name);
        if (value == null) {
            throw new IllegalArgumentException("argument " + name + " is missing");
        }
        return value;
    }

    int number(String name) {
        return Integer.parseInt(text(name));
    }

    /** One of two words: whether it is the first. */
    boolean is(String name, String yes, String no) {
        String value = text(name);
        if (!value.equals(yes) && !value.equals(no)) {
            throw new IllegalArgumentException("argument " + name + ": " + value + " is neither " + yes + " nor " + no);
        }
        return value.equals(yes);
    }
}
