// Two well-known clients, generated from the openapi files, against the URLs of a devnet; prints what they saw as JSON.
import { readFileSync } from 'node:fs';
import explorerFactory from '@rosen-clients/ergo-explorer';
import nodeFactory from '@rosen-clients/ergo-node';

const client = (module) => (typeof module === 'function' ? module : module.default);
const [explorerUrl, nodeUrl, address, factsFile] = process.argv.slice(2);
const { tree, template, token, transaction, boxId } = JSON.parse(readFileSync(factsFile, 'utf8'));
const { v0, v1 } = client(explorerFactory)(explorerUrl);
const node = client(nodeFactory)(nodeUrl);

const seen = {};
seen.info = (await node.getNodeInfo()).fullHeight;
seen.state = (await v1.getApiV1Networkstate()).height;
seen.headers = (await node.getLastHeaders(10)).map((header) => header.height);
seen.slice = (await node.getChainSlice({ fromHeight: 3, toHeight: 5 })).length;
const [best] = await node.getFullBlockAt(seen.info);
seen.block = (await node.getFullBlockById(best)).header.id === best;
seen.summary = (await v1.getApiV1BlocksP1(best)).block.header.id === best;
seen.at = (await v0.getApiV0BlocksAtP1(seen.info))[0] === best;
seen.balance = String((await v1.getApiV1AddressesP1BalanceConfirmed(address)).nanoErgs);
seen.token = (await v1.getApiV1TokensP1(token)).name;
seen.byTemplate = (await v1.postApiV1BoxesUnspentSearch({ ergoTreeTemplateHash: template, registers: { R4: '7' } })).total;
seen.byTree = (await v1.getApiV1BoxesUnspentByergotreeP1(tree)).items.map((box) => box.boxId);
seen.indexed = (await node.getBoxesByAddress(address)).total;
seen.checked = await node.checkTransaction(transaction);
seen.sent = (await v1.postApiV1MempoolTransactionsSubmit(transaction)).id;
seen.again = await node.sendTransaction(transaction).then(() => 'taken', (error) => error.response.data.detail);
seen.waiting = (await node.getUnconfirmedTransactions()).map((each) => each.id);
seen.pool = (await v1.getApiV1MempoolTransactionsByaddressP1(address)).items.map((each) => each.id);
// Where a box has no global index yet, this client gives up on the answer and hands out its text, with the real Explorer, too.
const both = await v1.getApiV1BoxesUnspentUnconfirmedByaddressP1(address);
seen.unconfirmed = (typeof both === 'string' ? JSON.parse(both) : both).some((box) => box.boxId === boxId);
seen.absent = await v1.getApiV1BoxesP1('00'.repeat(32)).then(() => 200, (error) => error.response.status);
console.log(JSON.stringify(seen));
