"""What others use with the service: Confluent's client as producer, Svix's library as receiver.

  clients.py produce BOOTSTRAP TOPIC CODEC   lines {"id", "key", "value"}; prints how many
  clients.py verify                          lines {"secret", "headers", "body"}; prints how many
"""

import base64
import json
import sys

from confluent_kafka import Producer
from svix.webhooks import Webhook


def produce(bootstrap, topic, codec):
    failed = []
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": codec})
    count = 0
    for count, line in enumerate(sys.stdin, 1):
        record = json.loads(line)
        producer.produce(
            topic,
            key=record["key"],
            value=record["value"].encode(),
            headers={"webhook-id": record["id"]},
            on_delivery=lambda error, _: error and failed.append(error),
        )
        producer.poll(0)
    left = producer.flush(60)
    if failed or left:
        sys.exit(f"{len(failed)} were refused, {left} not acknowledged: {failed[:3]}")
    print(count)


def verify():
    count = 0
    for count, line in enumerate(sys.stdin, 1):
        request = json.loads(line)
        Webhook(request["secret"]).verify(base64.b64decode(request["body"]), request["headers"])
    print(count)


if __name__ == "__main__":
    {"produce": produce, "verify": verify}[sys.argv[1]](*sys.argv[2:])
