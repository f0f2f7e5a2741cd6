// An HTTP server of Node's that writes down each request as it read it.
//
// recorder.js RECORDS ANNOUNCED PORTS

'use strict';

const fs = require('node:fs');
const http = require('node:http');

const [records, announced, ports] = process.argv.slice(2);
const file = fs.openSync(records, 'w');

function writeDown(port, fields) {
  fs.writeSync(file, JSON.stringify({ port, ...fields }) + '\n');
}

// The path as an application routes by it.
function pathOf(target) {
  if (!URL.canParse(target, 'http://a.test')) return target;
  const { pathname } = new URL(target, 'http://a.test');
  const bytes = pathname.replace(/%([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(parseInt(digits, 16)));
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

function record(request, response) {
  const port = request.socket.localPort;
  let length = 0;
  const named = (wanted) => request.rawHeaders.filter((_, at, all) => at % 2 === 1 && all[at - 1].toLowerCase().replaceAll('_', '-') === wanted);
  request.on('data', (part) => { length += part.length; });
  request.on('error', () => {});
  request.on('close', () => {
    writeDown(port, {
      method: request.method,
      target: request.url,
      path: pathOf(request.url),
      host: named('host').join(', '),
      length,
      complete: request.complete,
      callers: named('x-forwarded-client-cert').join(', '),
      framings: named('content-length').length + named('transfer-encoding').length,
    });
  });
  request.on('end', () => {
    const body = Buffer.from(`${request.method} ${request.url}`, 'latin1');
    response.writeHead(200, { 'Content-Length': body.length });
    response.end(body);
  });
}

const servers = Array.from({ length: Number(ports) }, () => {
  // Lenient: what a strict parser would refuse must not get here in the first place.
  const server = http.createServer({ insecureHTTPParser: true, keepAliveTimeout: 0, requestTimeout: 0, maxHeaderSize: 128 * 1024 }, record);
  server.on('clientError', (error, socket) => {
    // A connection that ends in the middle of a request is the request's business.
    if (error.rawPacket !== undefined) {
      const target = `${error.code} ${JSON.stringify(error.rawPacket.toString('latin1'))}`;
      writeDown(socket.localPort, { method: '', target, path: '', host: '', length: 0, complete: false, callers: '', framings: 0 });
    }
    socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
  });
  return server;
});

let listening = 0;
for (const server of servers) {
  server.listen(0, '127.0.0.1', () => {
    listening += 1;
    if (listening === servers.length) {
      fs.writeFileSync(announced, JSON.stringify(servers.map((each) => each.address().port)));
    }
  });
}
process.on('SIGTERM', () => servers.forEach((server) => server.close()));
