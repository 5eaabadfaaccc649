// A workflow of ten durable steps, each of which answers at once: the peer of what the bench makes Lantern do.
// Listens on loopback, prints its port, and ends with its standard input.
import http2 from "node:http2";

// Node 20 lacks this; the SDK needs it.
Promise.withResolvers ??= function withResolvers() {
  let resolve, reject;
  const promise = new this((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
};

const restate = await import("@restatedev/restate-sdk");

const ten = restate.workflow({
  name: "ten",
  handlers: {
    run: async (ctx) => {
      let sum = 0;
      for (let step = 1; step <= 10; step += 1) {
        const { value } = await ctx.run(`s${step}`, () => ({ value: 2, exact: true }));
        sum += value;
      }
      return sum;
    },
  },
});

const server = http2.createServer(restate.createEndpointHandler({ services: [ten] }));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
