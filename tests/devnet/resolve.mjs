// The packages are published for bundlers, with imports that name no file extension; this resolves them as a bundler does.
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export async function resolve(specifier, context, next) {
  if (specifier.startsWith('.') && context.parentURL) {
    const url = new URL(specifier, context.parentURL);
    const path = fileURLToPath(url);
    if (existsSync(path) && statSync(path).isDirectory()) return next(`${url.href}/index.js`, context);
    if (!existsSync(path) && existsSync(`${path}.js`)) return next(`${url.href}.js`, context);
  }
  return next(specifier, context);
}
