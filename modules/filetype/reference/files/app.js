'use strict';

const http = require('http');

const birds = [{ name: 'giant', mass: 20 }, { name: 'bee', mass: 2 }];

function sorted(list, key) {
  return [...list].sort((a, b) => a[key] - b[key]);
}

const server = http.createServer((req, res) => {
  res.writeHead(200, { 'Content-Type': 'application/json' });
  res.end(JSON.stringify(sorted(birds, 'mass')));
});

server.listen(8080, () => console.log('listening on 8080'));

module.exports = { sorted };
