//! Kafka Streams-style topologies with asynchronous processing and out-of-order completion.
