# expect: equal
# opa: undefined
package envoy.authz
allow if count([x | some x in input.xs; not x == 1]) == 0
