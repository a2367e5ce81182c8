package io.github.conceptseg.client;

import java.nio.file.Path;

/**
 * Where a server listens.
 *
 * @param host name or number of the computer
 * @param port TCP port
 * @param token what every call must carry
 * @param tlsCertificate certificate file to check the server with; null without TLS
 */
public record ServerAddress(String host, int port, String token, Path tlsCertificate) {

    /** From {@code HOST:PORT}, IPv6 as {@code [::1]:PORT}; an empty or null certificate means no TLS. */
    public static ServerAddress parse(String endpoint, String token, String tlsCertificate) {
        String text = endpoint.strip();
        int colon = text.lastIndexOf(':');
        try {
            int port = Integer.parseInt(text.substring(colon + 1));
            String host = text.substring(0, Math.max(colon, 0)).replace("[", "").replace("]", "");
            if (host.isEmpty() || port < 1 || port > 65535) {
                throw new NumberFormatException(text);
            }
            boolean plain = tlsCertificate == null || tlsCertificate.isBlank();
            return new ServerAddress(host, port, token.strip(), plain ? null : Path.of(tlsCertificate.strip()));
        } catch (NumberFormatException error) {
            throw new ConceptSegException(ConceptSegException.Kind.BAD_REQUEST,
                "The server address '" + endpoint + "' is not HOST:PORT, such as localhost:50051.", error);
        }
    }

    /** {@code HOST:PORT}. */
    public String endpoint() {
        return (host.contains(":") ? "[" + host + "]" : host) + ":" + port;
    }

    @Override
    public String toString() {
        return endpoint(); // never the token
    }
}
